"""The mean of what devices have learned, and what is refused before it goes in. numpy alone: no Flower.

A *fleet* is what all devices share: `classes`, and `arrays` by key, as `srlora.trained` names them. An *update* is what one device
sends: the same arrays as its lesson has left them, with the rows of the head of its own classes alone.

Device i counts with n_i: as many photos as it has trained on, but no more than twice those of the device in the middle (`weights`), as
nobody can count what it claims. With N their sum:

    b     = (n_1 b_1 + n_2 b_2 + ...) / N           at each site
    row c = the same over the devices that have class c; where none has it, the row stays

In f32: devices in ascending order of their numbers, each product rounded, each sum rounded, one division at the end. So whoever has the
updates can compute the same bits. The mean is rounded to what it is sent in (`srlora.flower.wire`), so that all devices and the server
hold the same values.

Where `a` stays on the bundle's directions it is the same everywhere, and the mean of the products b_i a is the product (mean b) a: nothing
is lost. Where `a` was trained too, the mean of the products is not the product of the means (FedEx-LoRA, arXiv 2410.09432). What is left,

    residual = sum_i (n_i / N) b_i a_i - b a,

goes into `<site>/delta`, unless it is asked to be left out.
"""

from collections import Counter
from hashlib import sha256
from typing import Dict, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Arrays = Dict[str, Array]

WEIGHT, BIAS = "head/weight", "head/bias"
SLACK = 1.01
"""By how much an update may be longer than it was clipped to: it was added to the fleet's values, and rounded, perhaps to int8."""
MOMENTUM = 0.5
"""How much of its last move a fleet makes again, where nothing else is asked for (docs/fleet.md)."""
LONGEST_ROW = 2.0
"""How many times as long as the row in the middle a row of the head may be that a device has imprinted."""
MOST_WEIGHT = 2.0
"""How many times the photos of the device in the middle a device may count with, where nothing else is asked for."""


class Fleet(NamedTuple):
    """What all devices share."""

    bundle_sha256: str
    classes: List[str]
    arrays: Arrays


class Update(NamedTuple):
    """What one device has learned: `node` is its number, `photos` how many of each of its `classes` it has trained on."""

    node: int
    bundle_sha256: str
    classes: List[str]
    photos: List[int]
    arrays: Arrays

    @property
    def examples(self) -> int:
        """All photos that it has trained on."""
        return sum(self.photos)


class Refused(ValueError):
    """An update that does not go into the mean. `node` is who sent it, `key` which array is at fault."""

    def __init__(self, node: int, key: str, reason: str) -> None:
        super().__init__(f"the update of node {node} is refused: {key} {reason}")
        self.node, self.key, self.reason = node, key, reason


def weights(photos: Sequence[int], most: float = MOST_WEIGHT) -> List[int]:
    """What devices count with that claim so many photos: as many, and at most `most` times those of the device in the middle (of an even
    number of devices, the lower one of the two there). With `most` 0 they count with what they claim.

    So a device that claims a billion photos counts like one that has twice the usual number. To move the middle, half of the devices have
    to claim together.
    """
    if not most:
        return list(photos)
    middle = sorted(photos)[(len(photos) - 1) // 2]
    return [min(count, max(1, int(most * middle))) for count in photos]


def rows_of(fleet: Fleet, classes: Sequence[str]) -> Arrays:
    """The fleet's arrays, with the rows of the head of `classes` alone, in their order."""
    rows = [fleet.classes.index(name) for name in classes]
    return {key: array[rows] if key in (WEIGHT, BIAS) else array for key, array in fleet.arrays.items()}


def check(update: Update, fleet: Fleet, longest: float) -> None:
    """Raises `Refused` for what cannot be meant, or is farther from the fleet than `longest` (the L2 norm over all arrays)."""

    def refuse(key: str, reason: str) -> Refused:
        return Refused(update.node, key, reason)

    if update.bundle_sha256 != fleet.bundle_sha256:
        raise refuse("bundle", f"is another one (sha256 {update.bundle_sha256[:12]}...); give each device the same file")
    unknown = [name for name in update.classes if name not in fleet.classes]
    if unknown or len(set(update.classes)) != len(update.classes) or not update.classes:
        raise refuse("classes", f"are not those agreed on: {', '.join(unknown) or 'none, or one twice'}; start the run anew")
    if len(update.photos) != len(update.classes) or min(update.photos) < 1:
        raise refuse("photos", "are not one or more of each class")
    expected = {key: array for key, array in rows_of(fleet, update.classes).items() if not key.endswith("/delta")}
    for key in sorted(expected.keys() | update.arrays.keys()):
        if key not in update.arrays:
            raise refuse(key, "is missing")
        if key not in expected:
            raise refuse(key, "is no array of the fleet")
        array = update.arrays[key]
        if array.dtype != np.float32 or array.shape != expected[key].shape:
            raise refuse(key, f"is {array.dtype} {list(array.shape)}, and has to be float32 {list(expected[key].shape)}")
        if not np.isfinite(array).all():
            raise refuse(key, "holds values that are not finite")
    length = distance(update.arrays, expected)
    if length > longest * SLACK:
        raise refuse("arrays", f"are {length:.4g} away from the fleet's, and {longest:.4g} is allowed")


def distance(arrays: Mapping[str, Array], others: Mapping[str, Array]) -> float:
    """The L2 norm of the difference over all keys of `arrays`, in f64."""
    squares = (float(np.square(arrays[key].astype(np.float64) - others[key]).sum()) for key in sorted(arrays))
    return float(np.sqrt(sum(squares)))


def weighted_mean(arrays: Sequence[Array], weights: Sequence[int]) -> Array:
    """(w_1 x_1 + w_2 x_2 + ...) / (w_1 + w_2 + ...) in f32, in the order given, each step rounded."""
    total: Array = np.zeros_like(arrays[0])
    for array, weight in zip(arrays, weights):
        total = np.add(total, np.multiply(np.float32(weight), array, dtype=np.float32), dtype=np.float32)
    return np.divide(total, np.float32(sum(weights)), dtype=np.float32)


def mean(fleet: Fleet, updates: Sequence[Update], residual: bool = True, most: float = MOST_WEIGHT) -> Fleet:
    """The next fleet: see the module. `updates` have passed `check`; without any, the fleet stays. `most` is that of `weights`."""
    if not updates:
        return fleet
    updates = sorted(updates, key=lambda update: update.node)
    counts = weights([update.examples for update in updates], most)
    arrays: Arrays = dict(fleet.arrays)
    for key in fleet.arrays:
        if key not in (WEIGHT, BIAS) and not key.endswith("/delta"):
            arrays[key] = weighted_mean([update.arrays[key] for update in updates], counts)
    for key in (WEIGHT, BIAS):
        arrays[key] = np.array(arrays[key], np.float32)
        for row, name in enumerate(fleet.classes):
            own = [(update, count) for update, count in zip(updates, counts) if name in update.classes]
            if own:
                rows = [update.arrays[key][update.classes.index(name)] for update, _ in own]
                arrays[key][row] = weighted_mean(rows, [count for _, count in own])
    for key in [key for key in fleet.arrays if key.endswith("/a")] if residual else []:
        site = key[: -len("/a")]
        left, before = left_out(site, updates, (counts, arrays)), fleet.arrays.get(f"{site}/delta")
        arrays[f"{site}/delta"] = left if before is None else np.add(before, left, dtype=np.float32)
    return fleet._replace(arrays=arrays)


def move(before: Fleet, after: Fleet) -> Arrays:
    """What the fleet has moved by in a round, in f32."""
    return {key: np.subtract(array, before.arrays[key], dtype=np.float32) for key, array in after.arrays.items() if key in before.arrays}


def carried_on(mean: Fleet, moved: Mapping[str, Array], momentum: float) -> Fleet:
    """The mean, and from there `momentum` times what the fleet has moved by in the round before: in f32, product and sum rounded.

    Lessons are short steps, and means of them shorter ones; a fleet that goes on the way it went needs fewer rounds (FedAvgM, arXiv
    1909.06335). A delta stays.
    """
    arrays = dict(mean.arrays)
    for key, array in moved.items() if momentum else ():
        if not key.endswith("/delta"):
            arrays[key] = np.add(arrays[key], np.multiply(np.float32(momentum), array, dtype=np.float32), dtype=np.float32)
    return mean._replace(arrays=arrays)


def left_out(site: str, updates: Sequence[Update], of: Tuple[Sequence[int], Mapping[str, Array]]) -> Array:
    """The mean of the products b a at a site less the product of the means, in f64, then f32. `of` are what updates count with, and the means."""
    counts, means = of
    total = sum(counts)
    b, a = f"{site}/b", f"{site}/a"
    left = -means[b].astype(np.float64) @ means[a].astype(np.float64)
    for update, count in zip(updates, counts):
        left += count / total * (update.arrays[b].astype(np.float64) @ update.arrays[a].astype(np.float64))
    return left.astype(np.float32)


def agree(counts: Mapping[int, Mapping[str, int]]) -> List[str]:
    """The classes of all devices, each once, in byte order."""
    return sorted({name for own in counts.values() for name in own}, key=lambda name: name.encode())


def begin(classes: List[str], updates: Sequence[Update], most: float = MOST_WEIGHT) -> Tuple[Fleet, List[Refused]]:
    """The fleet before its first lesson, of what devices have imprinted: pairs at their start, and of each class the mean of the
    devices' rows, weighted by their photos of it (`weights`) and as long as these are in the mean. Pairs at their start follow from the
    bundle. So an update of another bundle than most devices have is refused, and so is one that begins with other pairs; and one with a row
    more than `LONGEST_ROW` times as long as the one in the middle. Each update has a head (`srlora.flower.records.update_of`).
    """
    form = [_begun(update) for update in updates]
    counted = Counter(form)
    usual = max(counted, key=lambda one: (counted[one], one))
    refused = [
        Refused(update.node, "bundle", "or its pairs at their start are not those of most devices; give each device the same file")
        for update, own in zip(updates, form)
        if own != usual
    ]
    kept = sorted((update for update, own in zip(updates, form) if own == usual), key=lambda update: update.node)
    arrays = {key: array for key, array in kept[0].arrays.items() if key not in (WEIGHT, BIAS)}
    arrays[WEIGHT] = np.zeros((len(classes), kept[0].arrays[WEIGHT].shape[1]), np.float32)
    arrays[BIAS] = np.zeros(len(classes), np.float32)
    fleet = Fleet(kept[0].bundle_sha256, classes, arrays)
    good: List[Update] = []
    for update in kept:
        try:
            check(update, fleet, float("inf"))
            good.append(update)
        except Refused as error:
            refused.append(error)
    middle_length = float(np.median(np.concatenate([_lengths(update) for update in good] or [np.zeros(1)])))
    for update in [update for update in good if _lengths(update).max() > LONGEST_ROW * middle_length]:
        good.remove(update)
        refused.append(Refused(update.node, WEIGHT, f"has a row more than {LONGEST_ROW:g} times as long as those of most devices"))
    for row, name in enumerate(classes):
        own = [(update, update.classes.index(name)) for update in good if name in update.classes]
        if not own:
            continue
        photos = weights([update.photos[at] for update, at in own], most)
        rows = [update.arrays[WEIGHT][at] for update, at in own]
        middle = weighted_mean(rows, photos)
        lengths = sum(count * float(np.linalg.norm(each)) for count, each in zip(photos, rows)) / sum(photos)
        arrays[WEIGHT][row] = middle * np.float32(lengths / max(float(np.linalg.norm(middle)), 1e-30))
        arrays[BIAS][row] = weighted_mean([update.arrays[BIAS][at] for update, at in own], photos)
    return fleet, refused


def _begun(update: Update) -> Tuple[str, Tuple[Tuple[str, Tuple[int, ...], bytes], ...]]:
    """What all devices with the same bundle begin with: it, how long a row of the head is, and the pairs' shapes and bits."""
    pairs = sorted(update.arrays.keys() - {WEIGHT, BIAS})
    of = [(key, update.arrays[key].shape, sha256(update.arrays[key].tobytes()).digest()) for key in pairs]
    return update.bundle_sha256, ((WEIGHT, update.arrays[WEIGHT].shape[1:], b""), *of)


def _lengths(update: Update) -> "npt.NDArray[np.float64]":
    """The length of each row of the head, its bias included."""
    rows = np.column_stack([update.arrays[WEIGHT], update.arrays[BIAS]]).astype(np.float64)
    return np.sqrt(np.square(rows).sum(axis=1))
