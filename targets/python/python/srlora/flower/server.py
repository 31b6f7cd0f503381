"""The server of a fleet: Flower's ServerApp, and the strategy that it runs."""

import time
from logging import INFO, WARNING
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple, cast
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, MetricRecord, MetricRecordValues, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Result, Strategy

from . import average, privacy
from .average import Fleet, Refused, Update
from .records import (
    CONFIG,
    METRICS,
    NOT_TAKEN,
    Value,
    array_record,
    bytes_of,
    config_record,
    flag,
    fleet_record,
    number,
    precision,
    text,
    texts,
    update_of,
    whole,
    wholes,
)
from .wire import Precision, fleet_as_sent


MOST_NAME_BYTES = 255
"""Bytes of the longest name of a class: it is the name of a folder."""
MOST_SAID = 500
"""Letters of what a device says that go into the log."""


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
    """Where `output` is there already, it is of a run that was cut: its rounds that are left are made. Else the run begins afresh."""
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
        if settings.pairs not in ("one-sided", "both"):
            raise ValueError(f"`pairs` is {settings.pairs!r}, and has to be one-sided or both")
        if not 0 <= settings.momentum < 1:
            raise ValueError(f"`momentum` is {settings.momentum}, and has to be 0 or more and below 1")
        if settings.most_weight and settings.most_weight < 1:
            raise ValueError(f"`most-weight` is {settings.most_weight}, and has to be 1 or more, or 0 for no bound")
        if settings.resume and not settings.output:
            raise ValueError("`resume` goes on from `output`: give `output` too")
        if (settings.noise or settings.epsilon) and not settings.clip:
            raise ValueError("`noise` hides updates that are clipped: give `clip` too")
        if settings.epsilon:
            # What is imprinted is released once more.
            z = privacy.multiplier(settings.epsilon, settings.rounds + 1, settings.delta)
            settings = settings._replace(noise=z)
        return settings


class FleetStrategy(Strategy):
    """Agrees on classes, then averages what devices learn: see `srlora.flower.average`. What it refuses, it names, and goes on."""

    def __init__(self, settings: FleetSettings) -> None:
        self.settings = settings
        self.fleet: Optional[Fleet] = None
        self.photos = 0
        self.done = 0
        self.moved: average.Arrays = {}
        self.asked: List[int] = []
        self.refused: List[str] = []
        self.random = np.random.default_rng()

    # --- before the first round ---------------------------------------------------------------------------------------------

    def prepare(self, grid: Grid) -> ArrayRecord:
        """Asks all devices for their classes, then for what they imprint: the fleet before its first lesson."""
        counts: Dict[int, Dict[str, int]] = {}
        for message in self._ask(grid, MessageType.QUERY, RecordDict({CONFIG: config_record({"asks": "classes"})})):
            node = message.metadata.src_node_id
            try:
                counts[node] = counted(message.content)
            except (KeyError, ValueError) as error:
                self._refuse(0, f"the classes of node {node} are refused: {error}")
        classes = average.agree(counts)
        self.photos = sum(average.weights([sum(own.values()) for own in counts.values()], self.settings.most_weight)) if counts else 0
        for node, own in sorted(counts.items()):
            missing = [name for name in classes if name not in own]
            log(INFO, "node %d: %d photos, %s", node, sum(own.values()), f"without {', '.join(missing)}" if missing else "of all classes")
        log(INFO, "agreed on %d classes: %s", len(classes), ", ".join(classes))
        content = RecordDict({CONFIG: config_record({"pairs": self.settings.pairs, "precision": self.settings.precision})})
        updates: List[Update] = []
        for message in self._ask(grid, f"{MessageType.TRAIN}.imprint", content):
            try:
                updates.append(update_of(message))
            except Refused as error:
                self._refuse(0, str(error))
        if not updates:
            raise RuntimeError("no device has imprinted anything: see what was refused above")
        self.fleet, refused = average.begin(classes, updates, self.settings.most_weight)
        for each in refused:
            self._refuse(0, str(each))
        if self.settings.noise:
            self.fleet = privacy.noised_start(self.fleet, updates, self.settings.noise, self.random)
        output = Path(self.settings.output)
        if self.settings.resume and output.is_file():
            self.fleet, self.done = gone_on_from(output, self.fleet)
            log(INFO, "%s: is after round %d of %d", output, self.done, self.settings.rounds)
        elif self.settings.start:
            self.fleet, _ = gone_on_from(Path(self.settings.start), self.fleet)
        return self._settled(self.fleet, self.done)

    def _settled(self, fleet: Fleet, after_round: int) -> ArrayRecord:
        """The fleet as it will arrive, from now on the server's too; it is kept where that was asked for."""
        self.fleet = fleet._replace(arrays=fleet_as_sent(fleet.arrays, self.settings.precision))
        if self.settings.output:
            save(self.fleet, Path(self.settings.output), after_round)
        return array_record(self.fleet.arrays, self.settings.precision)

    def _ask(self, grid: Grid, kind: str, content: RecordDict) -> List[Message]:
        messages = [Message(content, dst_node_id=node, message_type=kind) for node in self._nodes(grid)]
        replies = grid.send_and_receive(messages, timeout=self.settings.round_timeout)
        return self._sound(0, replies)

    def _nodes(self, grid: Grid) -> List[int]:
        """All devices that are there, in ascending order, once there are enough."""
        while len(nodes := sorted(grid.get_node_ids())) < self.settings.min_nodes:
            log(INFO, "waiting for devices: %d of %d are there", len(nodes), self.settings.min_nodes)
            time.sleep(1)
        self.asked = nodes
        return nodes

    def _sound(self, server_round: int, replies: Iterable[Message]) -> List[Message]:
        """Replies that are answers; who has failed, or has not answered, is named.

        Of a node that is gone, the SuperLink tells in its own name; so it is among those that were asked and are not among the others.
        """
        sound: List[Message] = []
        silent, gone = set(self.asked), "it has not answered in time"
        for message in replies:
            node = message.metadata.src_node_id
            if message.has_error():
                reason = (message.error.reason or "it does not say why").strip().splitlines()[-1]
                if node in silent:
                    self._refuse(server_round, f"node {node} has failed: {reason}")
                else:
                    gone = reason
                silent.discard(node)
                continue
            silent.discard(node)
            config = message.content.config_records.get(CONFIG)
            if config is not None and "refused" in config:
                self._refuse(server_round, f"node {node} has nothing to send: {str(config['refused'])[:MOST_SAID]}")
                continue
            sound.append(message)
        for node in sorted(silent):
            self._refuse(server_round, f"node {node} has failed: {gone}")
        return sorted(sound, key=lambda message: message.metadata.src_node_id)

    def _refuse(self, server_round: int, reason: str) -> None:
        # Devices have written part of it: it stays one line of the log.
        reason = "".join(letter if letter.isprintable() else " " for letter in reason)
        self.refused.append(f"round {server_round}: {reason}")
        log(WARNING, "round %d: %s", server_round, reason)

    # --- a round ------------------------------------------------------------------------------------------------------------

    def _known(self) -> Fleet:
        if self.fleet is None:
            raise RuntimeError("no fleet yet: call prepare() first")
        return self.fleet

    def _messages(self, grid: Grid, server_round: int, kind: str) -> Iterable[Message]:
        number = self.done + server_round
        settings: Dict[str, Value] = {
            "server-round": number,
            "take": number > 1,
            "fleet-photos": self.photos,
            "pairs": self.settings.pairs,
            "epochs": self.settings.epochs,
            "clip": self.settings.clip,
            "precision": self.settings.precision,
        }
        content = fleet_record(self._known(), settings)
        return [Message(content, dst_node_id=node, message_type=kind) for node in self._nodes(grid)]

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """The fleet to all devices."""
        return self._messages(grid, server_round, MessageType.TRAIN)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> Tuple[Optional[ArrayRecord], Optional[MetricRecord]]:
        """The mean of what has come and can be meant; and what devices tell of the mean before it."""
        fleet, number = self._known(), self.done + server_round
        sound = self._sound(number, replies)
        tried = self._tried(number - 1, [message for message in sound if METRICS in message.content])
        updates: List[Update] = []
        sizes: List[int] = []
        for message in sound:
            try:
                update = update_of(message, fleet)
                average.check(update, fleet, self.settings.clip or float("inf"))
                updates.append(update)
                sizes.append(bytes_of(message))
            except Refused as error:
                self._refuse(number, str(error))
            config = message.content.config_records.get(CONFIG)
            if config is not None and NOT_TAKEN in config:
                why = str(config[NOT_TAKEN])[:MOST_SAID]
                self._refuse(number, f"the store of node {message.metadata.src_node_id} does not take the mean: {why}")
        if not updates:
            log(WARNING, "round %d: nothing has come that can be averaged; the fleet stays as it was", number)
            return None, None
        mean = self._mean(number, fleet, updates)
        if self.settings.pairs == "one-sided":
            mean = average.carried_on(mean, self.moved, self.settings.momentum)
        record = self._settled(mean, number)
        self.moved = average.move(fleet, self._known())
        self._keep(number, fleet, updates)
        told: Dict[str, MetricRecordValues] = {"devices": len(updates), "photos": sum(update.examples for update in updates)}
        told.update({"bytes-up": max(sizes), "bytes-down": sum(len(array.data) for array in record.values())})
        return record, MetricRecord({**told, **{f"last-mean-{name}": value for name, value in tried.items()}})

    def _mean(self, number: int, fleet: Fleet, updates: List[Update]) -> Fleet:
        s = self.settings
        if s.noise:
            return privacy.noised_mean(fleet, updates, (s.clip, s.noise), self.random)
        for update, count in zip(updates, average.weights([update.examples for update in updates], s.most_weight)):
            if count < update.examples:
                log(WARNING, "round %d: node %d claims %d photos; it counts with %d, %g times the device in the middle (`most-weight`)",
                    number, update.node, update.examples, count, s.most_weight)  # fmt: skip
        return average.mean(fleet, updates, s.residual, s.most_weight)

    def _keep(self, server_round: int, before: Fleet, updates: List[Update]) -> None:
        if not self.settings.keep:
            return
        folder = Path(self.settings.keep) / f"round-{server_round:03}"
        folder.mkdir(parents=True, exist_ok=True)
        for update in updates:
            told = {"classes": np.array(update.classes), "photos": np.array(update.photos)}
            write(folder / f"{update.node}.npz", {**update.arrays, **told})
        for name, fleet in (("before", before), ("mean", self._known())):
            write(folder / f"{name}.npz", {**fleet.arrays, "classes": np.array(fleet.classes)})

    def configure_evaluate(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """The last mean to all devices, which try it. The others are tried when the next lesson begins."""
        if self.done + server_round >= self.settings.rounds:
            return self._messages(grid, server_round, MessageType.EVALUATE)
        self.asked = []
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> Optional[MetricRecord]:
        """Accuracy over all photos held back, and how many devices have kept the mean aside."""
        number = self.done + server_round
        return MetricRecord(told) if (told := self._tried(number, self._sound(number, replies))) else None

    def _tried(self, number: int, replies: Iterable[Message]) -> Dict[str, MetricRecordValues]:
        """What devices tell of the mean of round `number`."""
        photos, right, aside, devices = 0, 0.0, 0, 0
        for message in replies:
            try:
                of = measured(message.content)
            except (KeyError, ValueError) as error:
                self._refuse(number, f"what node {message.metadata.src_node_id} tells of the mean is refused: {error}")
                continue
            devices, photos = devices + 1, photos + int(of["num-examples"])
            right += of["num-examples"] * of["accuracy"]
            if of["kept-aside"]:
                aside += 1
                # As in any trial, a class of which less than half is left is reason enough.
                why = "" if of["after"] < of["before"] else ", but a class is lost"
                log(INFO, "round %d: node %d keeps the mean aside: %.1f %% of %d photos, and its store %.1f %%%s", number,
                    message.metadata.src_node_id, 100 * of["after"], of["tried-on"], 100 * of["before"], why)  # fmt: skip
        if not devices:
            return {}
        return {"devices": devices, "photos": photos, "kept-aside": aside, "accuracy": right / max(photos, 1)}

    def summary(self) -> None:
        """What is averaged, and what is promised."""
        s = self.settings
        exact = "exact: a is the bundle's, and b and the head are averaged"
        both = "products, " + ("with what their mean leaves out in the delta" if s.residual else "without what their mean leaves out")
        log(INFO, "\taverages: %s", exact if s.pairs == "one-sided" else both)
        log(INFO, "\tclipped to: %s", s.clip or "nothing")
        if s.noise:
            epsilon = privacy.epsilon(s.noise, s.rounds + 1, s.delta)
            log(INFO, "\tnoise: z = %.3f; epsilon %.3f at delta %g over %d rounds and the imprinting", s.noise, epsilon, s.delta, s.rounds)
        else:
            log(INFO, "\tnoise: none, so nothing is promised of what the mean tells of one device")

    def run(self, grid: Grid) -> Result:
        """All of it: agree, imprint, `rounds` lessons, or those that are left."""
        arrays = self.prepare(grid)
        left = max(self.settings.rounds - self.done, 0)
        return self.start(grid, arrays, num_rounds=left, timeout=self.settings.round_timeout)


def counted(content: RecordDict) -> Dict[str, int]:
    """The classes of a device, and how many photos it has of each. Raises `KeyError` or `ValueError` for what cannot be meant."""
    config = content.config_records[CONFIG]
    names, photos = texts(config, "classes"), wholes(config, "photos")
    for name in names:
        if not 1 <= len(name.encode()) <= MOST_NAME_BYTES:
            raise ValueError(f"{name[:40]!r} is no name of a class")
    if len(names) != len(photos) or len(set(names)) != len(names) or not names or min(photos) < 1:
        raise ValueError("they are not one or more photos of each class")
    return dict(zip(names, photos))


def measured(content: RecordDict) -> Dict[str, float]:
    """What a device tells of the mean. Raises `KeyError` or `ValueError` for what cannot be meant."""
    metrics = cast(Mapping[str, object], content.metric_records[METRICS])
    told = {name: number(metrics, name) for name in ("num-examples", "accuracy", "kept-aside", "tried-on", "before", "after")}
    for name, value in told.items():
        most = 1 if name in ("accuracy", "before", "after", "kept-aside") else 2**53
        if not 0 <= value <= most:
            raise ValueError(f"`{name}` is {value}")
    return told


def save(fleet: Fleet, path: Path, after_round: int = 0) -> None:
    """Writes the fleet's arrays, `classes`, `bundle` and `round` as an `.npz` file, which takes its name once it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part.npz")
    write(part, {**fleet.arrays, "classes": np.array(fleet.classes), "bundle": np.array(fleet.bundle_sha256), "round": np.array(after_round)})
    part.replace(path)


def write(path: Path, arrays: Mapping[str, "npt.NDArray[Any]"]) -> None:
    """Writes arrays by key as an `.npz` file."""
    cast(Any, np.savez)(path, **arrays)


def gone_on_from(path: Path, begun: Fleet) -> Tuple[Fleet, int]:
    """What `save` has written, and after which round. Classes that are new get the rows that were just imprinted; those that no device has today stay.

    Raises `ValueError` for another bundle, and for a file that holds no fleet.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays: average.Arrays = {key: file[key] for key in file.files if key not in ("classes", "bundle", "round")}
            known, bundle, after_round = [str(name) for name in file["classes"]], str(file["bundle"]), int(file["round"])
    except (KeyError, ValueError, BadZipFile) as error:
        raise ValueError(f"{path}: holds no fleet ({error}); give a file that a run has written as its `output`") from error
    if bundle != begun.bundle_sha256:
        raise ValueError(f"{path}: is of another bundle than the devices have")
    classes = average.agree({0: dict.fromkeys(known, 1), 1: dict.fromkeys(begun.classes, 1)})
    for key in (average.WEIGHT, average.BIAS):
        rows = [arrays[key][known.index(name)] if name in known else begun.arrays[key][begun.classes.index(name)] for name in classes]
        arrays[key] = np.array(rows, np.float32)
    return Fleet(bundle, classes, arrays), after_round


def server_app() -> ServerApp:
    """A ServerApp that runs `FleetStrategy` with the settings of the run's configuration."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        FleetStrategy(FleetSettings.of(context.run_config)).run(grid)

    return app
