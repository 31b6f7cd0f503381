"""What a run's configuration asks for."""

from typing import Any, Callable, Dict, Mapping, NamedTuple, Tuple

from . import average, privacy
from .records import flag, number, precision, text, whole
from .wire import Precision


RANGES: Dict[str, Tuple[Callable[[float], bool], str]] = {
    "rounds": (lambda value: value >= 1, "1 or more"),
    "epochs": (lambda value: value >= 1, "1 or more"),
    "clip": (lambda value: value >= 0, "more than 0, or 0 for any far"),
    "noise": (lambda value: value >= 0, "0 or more"),
    "epsilon": (lambda value: value >= 0, "more than 0, or 0 for none"),
    "delta": (lambda value: 0 < value < 1, "between 0 and 1"),
    "momentum": (lambda value: 0 <= value < 1, "0 or more and below 1"),
    "most_weight": (lambda value: value == 0 or value >= 1, "1 or more, or 0 for no bound"),
    "min_nodes": (lambda value: value >= 1, "1 or more"),
    "round_timeout": (lambda value: value > 0, "more than 0"),
}
"""What numbers can be meant."""


class FleetSettings(NamedTuple):
    """What a run's configuration asks for; in it, names have hyphens."""

    rounds: int = 5
    epochs: int = 15
    """Passes over a device's photos in a round."""
    pairs: str = "one-sided"
    """`one-sided`: b alone is trained, and the mean is exact. `both`: a too, and what the mean leaves out goes into the delta."""
    residual: bool = True
    """With `both`: False leaves that out."""
    clip: float = privacy.CLIP
    """How far an update may go; 0: any far."""
    noise: float = 0.0
    """The noise multiplier z; 0: none."""
    epsilon: float = 0.0
    """Or the epsilon to keep over all rounds, which finds z; 0: none."""
    delta: float = 1e-5
    """The delta that goes with it."""
    precision: Precision = "int8"
    """What arrays are sent in: see `srlora.flower.wire`."""
    momentum: float = average.MOMENTUM
    """How much of the fleet's last move it makes again; 0: none. With `both` it makes none."""
    most_weight: float = average.MOST_WEIGHT
    """How many times the photos of the device in the middle a device may count with; 0: as many as it claims."""
    min_nodes: int = 2
    """Devices to wait for before a round."""
    round_timeout: float = 3600.0
    """Seconds to wait for a round's answers. The round goes on without those that have not come."""
    output: str = ""
    """A file for the fleet's arrays after each round, `.npz`; empty: none."""
    start: str = ""
    """Such a file of an earlier run to go on from; empty: what devices imprint."""
    resume: bool = False
    """Where `output` is there already, it is of a run that was cut: its rounds that are left are made. Without this, a file that is there is not
    written over, unless it is `start`."""
    keep: str = ""
    """A folder for each round's updates, to look into; empty: none. They are what privacy is about."""

    @classmethod
    def of(cls, config: Mapping[str, object]) -> "FleetSettings":
        """Those of a run's configuration. Raises `ValueError`, naming what cannot be meant."""
        readers: Dict[type, Callable[[Mapping[str, object], str], object]] = {bool: flag, int: whole, float: number, str: text}
        if "precision" in config:
            precision(config)
        given: Dict[str, Any] = {}
        defaults: Mapping[str, object] = cls._field_defaults
        for name, default in defaults.items():
            if (key := name.replace("_", "-")) in config:
                given[name] = readers[type(default)](config, key)
        settings = cls(**given)
        for name, (fits, kind) in RANGES.items():
            if not fits(getattr(settings, name)):
                raise ValueError(f"`{name.replace('_', '-')}` is {getattr(settings, name)}, and has to be {kind}")
        if settings.pairs not in ("one-sided", "both"):
            raise ValueError(f"`pairs` is {settings.pairs!r}, and has to be one-sided or both")
        if settings.resume and not settings.output:
            raise ValueError("`resume` goes on from `output`: give `output` too")
        if (settings.noise or settings.epsilon) and not settings.clip:
            raise ValueError("`noise` hides updates that are clipped: give `clip` too")
        if settings.noise and settings.epsilon:
            raise ValueError("`epsilon` finds the noise by itself: leave out `noise`, or `epsilon`")
        if (settings.noise or settings.epsilon) and settings.pairs == "both":
            raise ValueError("`noise` is for the mean of b, and `pairs` is both: leave out one of them")
        if settings.epsilon:
            # What is imprinted is released once more.
            z = privacy.multiplier(settings.epsilon, settings.rounds + 1, settings.delta)
            settings = settings._replace(noise=z)
        return settings
