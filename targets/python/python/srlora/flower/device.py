"""What a device does for a fleet: it counts its classes, learns from the fleet's arrays, and takes what comes back. No Flower.

    my.store           what the device classifies with: a generation for each fleet that was no worse on the photos held back
    my.store.lesson    where a round's lesson is learned; it begins from the fleet each time, and may be lost at any time

A lesson never touches the device's store. So a cut in the middle of it costs the round, and nothing else.
"""

import hashlib
import math
import re
import shutil
import warnings
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

import srlora
from srlora import types

from .average import BIAS, WEIGHT, Arrays, Fleet, Update, rows_of
from .privacy import clip

HELD_BACK = 0.2
"""The share of photos that are not trained on, where nothing else is asked for."""

STORES = re.compile(r"[a-z]+-\d{6,9}\.safetensors|metrics\.jsonl|\.srlora-.*")
"""Names of files in a store, whole and half-written."""

KIND: types.Settings = {"method": "lora", "directions": "shipped", "start": "aligned", "solve": False, "replay": 0}
"""What a fleet's lessons have in common: pairs on the bundle's directions, and a head that steps leave as they do."""


TIMES = 3.0
"""How many times the rate of a lesson on all photos in one place a fleet's lessons have."""


def rate(pairs: types.Pairs, photos: int, times: float = TIMES) -> Optional[float]:
    """The learning rate of pairs in a fleet that has so many photos: `times` the one that a lesson on all of them would have.

    With a frozen, that one is 1e-4 sqrt(photos), between 1e-3 and 4e-3 (`srlora::session::Lesson::rates`): it is low for few photos, as
    pairs soon know these by heart. The mean of many devices does not, and it is shorter than what each of them has learned (docs/fleet.md).
    With both sides trained it does not follow the photos: None.
    """
    return times * min(max(1e-4 * math.sqrt(photos), 1e-3), 4e-3) if pairs == "one-sided" else None


class Taken(NamedTuple):
    """What became of the fleet's arrays on a device."""

    generation: int
    """The store's current generation."""
    kept_aside: bool
    """They were worse than what the store had, on the photos held back, and were kept aside."""
    tried_on: int
    """On so many photos; 0: it could not be told."""
    before: float
    """Share of these that the store had recognized; 0 where it was not told."""
    after: float
    """Share that is recognized with the fleet's arrays."""


class Device:
    """A device with a bundle, a folder of photos with a folder for each class, and a store.

    Photos are held back by their contents: one that was held back once always is. `held_back` is their share.
    """

    def __init__(self, bundle: types.Path, photos: types.Path, store: types.Path, held_back: float = HELD_BACK) -> None:
        self.bundle = srlora.Bundle(bundle)
        if not 0 <= held_back < 1:
            raise ValueError(f"`held-back` is {held_back}, and has to be 0 or more and below 1")
        self.store = Path(store)
        self.scratch = self.store.with_name(self.store.name + ".lesson")
        self.trained_on: List[Tuple[Path, str]] = []
        self.held_back: List[Tuple[Path, str]] = []
        for path in sorted(Path(photos).glob("*/*")):
            # As srlora finds them: what begins with a dot is nobody's photo.
            is_hidden = path.name.startswith(".") or path.parent.name.startswith(".")
            if path.suffix.lower() in (".jpg", ".jpeg", ".png") and not is_hidden and path.is_file():
                first = int.from_bytes(hashlib.sha256(path.read_bytes()).digest()[:8], "big")
                (self.held_back if first < held_back * 2**64 else self.trained_on).append((path, path.parent.name))
        if not self.trained_on:
            raise srlora.DataError(f"{photos}: has no photos to train on; it has a folder of JPEG or PNG files for each class")

    def classes(self) -> Dict[str, int]:
        """The classes that it has photos of to train on, in byte order, and how many of each."""
        names = sorted({name for _, name in self.trained_on}, key=lambda name: name.encode())
        return {name: sum(own == name for _, own in self.trained_on) for name in names}

    def imprint(self, pairs: types.Pairs) -> Update:
        """The head's rows as the photos imprint them, and all pairs at their start."""
        self._forget_lesson()
        paths, labels = zip(*self.trained_on)
        settings: types.Settings = {**KIND, "labels": labels, "pairs": pairs, "cache": "ram"}
        with srlora.Trainer(self.bundle, paths, self.scratch, **settings) as trainer:
            trainer.step()
        return self._update()

    def learn(self, fleet: Fleet, settings: types.Settings, longest: Optional[float] = None) -> Update:
        """One lesson from the fleet's arrays, on the rows of the head that it has photos of. Classes that the fleet does not know rest.

        `settings` are those of `srlora.train`, with `pairs`. What was learned is at most `longest` away from the fleet's arrays (the L2
        norm over all of them): beyond, it is shortened.
        """
        self._forget_lesson()
        known = [(path, name) for path, name in self.trained_on if name in fleet.classes]
        if not known:
            raise srlora.DataError(f"{self.store}: has photos of none of the fleet's classes; start the run anew, so that they are agreed on")
        own = [name for name in self.classes() if name in fleet.classes]
        start = rows_of(fleet, own)
        begun: types.Trained = {"bundle_sha256": fleet.bundle_sha256, "classes": own, "arrays": start}
        srlora.adopt(self.bundle, begun, self.scratch)
        paths, labels = zip(*known)
        asked: types.Settings = {**KIND, "cache": "ram", **settings, "labels": labels, "further": True}
        report = srlora.train(self.bundle, paths, self.scratch, progress=False, **asked)
        if report["aside"] is not None:
            # Whether it is worse on photos that it has seen says little of the mean. The fleet's arrays are tried when they come.
            srlora.Store(self.scratch).rollback(report["aside"])
        update = self._update()
        return update if longest is None else update._replace(arrays=clip(update.arrays, start, longest))

    def take(self, fleet: Fleet) -> Taken:
        """Makes the fleet's arrays the store's next generation, if they are no worse on the photos held back.

        A device without a store has nothing to compare them with, and takes them as its first generation.
        """
        given: types.Trained = {"bundle_sha256": fleet.bundle_sha256, "classes": fleet.classes, "arrays": fleet.arrays}
        with warnings.catch_warnings():
            # A lesson of the device's own that was under way is let go, as `adopt` says.
            warnings.simplefilter("ignore", srlora.SrloraWarning)
            if self.held_back:
                paths, labels = zip(*self.held_back)
                adopted = srlora.adopt(self.bundle, given, self.store, val=paths, val_labels=labels)
            else:
                adopted = srlora.adopt(self.bundle, given, self.store)
        trial = adopted["trial"]
        photos, before, after = (trial["photos"], trial["before"], trial["after"]) if trial else (0, 0.0, 0.0)
        return Taken(adopted["generation"], adopted["aside"] is not None, photos, before, after)

    def measure(self) -> Tuple[int, float]:
        """How many photos are held back, and which share of them the store recognizes."""
        if not self.held_back:
            return 0, 0.0
        paths, labels = zip(*self.held_back)
        evaluation = srlora.evaluate(self.bundle, paths, self.store, labels=labels, progress=False)
        return evaluation["n"], evaluation["accuracy"]

    def _forget_lesson(self) -> None:
        """Raises `DataError` where what is there is no lesson's: nothing of it is removed."""
        if not self.scratch.exists():
            return
        if not all(entry.is_file() and STORES.fullmatch(entry.name) for entry in self.scratch.iterdir()):
            raise srlora.DataError(f"{self.scratch}: is no lesson's folder, and is where lessons are learned; move it away")
        shutil.rmtree(self.scratch)

    def _update(self) -> Update:
        """What the lesson's store has, but for the delta, which no lesson of a fleet changes."""
        trained, photos = srlora.trained(self.bundle, self.scratch), self.classes()
        arrays: Arrays = {key: array for key, array in trained["arrays"].items() if not key.endswith("/delta")}
        classes = trained["classes"]
        assert arrays[WEIGHT].shape[0] == len(arrays[BIAS]) == len(classes)
        self._forget_lesson()
        return Update(0, trained["bundle_sha256"], classes, [photos[name] for name in classes], arrays)
