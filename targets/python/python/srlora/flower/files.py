"""The files that a server writes and goes on from: the fleet after each round, and what to look into. numpy alone: no Flower."""

from pathlib import Path
from typing import Any, Iterable, Mapping, Tuple, cast
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from . import average
from .average import Fleet, Update


def save(fleet: Fleet, path: Path, after_round: int = 0) -> None:
    """Writes the fleet's arrays, `classes`, `bundle` and `round` as an `.npz` file, which takes its name once it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part.npz")
    write(part, {**fleet.arrays, "classes": np.array(fleet.classes), "bundle": np.array(fleet.bundle_sha256), "round": np.array(after_round)})
    part.replace(path)


def write(path: Path, arrays: Mapping[str, "npt.NDArray[Any]"]) -> None:
    """Writes arrays by key as an `.npz` file."""
    cast(Any, np.savez)(path, **arrays)


def keep(folder: Path, updates: Iterable[Update], before: Fleet, mean: Fleet) -> None:
    """Writes what a round was made of, to look into: the fleet `before` it, each update under its node's number, and the `mean`."""
    folder.mkdir(parents=True, exist_ok=True)
    for update in updates:
        told = {"classes": np.array(update.classes), "photos": np.array(update.photos)}
        write(folder / f"{update.node}.npz", {**update.arrays, **told})
    for name, fleet in (("before", before), ("mean", mean)):
        write(folder / f"{name}.npz", {**fleet.arrays, "classes": np.array(fleet.classes)})


def read(path: Path) -> Tuple[Fleet, int]:
    """What `save` has written, and after which round. Raises `ValueError` for a file that cannot be read, or holds no fleet."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays: average.Arrays = {key: file[key] for key in file.files if key not in ("classes", "bundle", "round")}
            known, bundle, after_round = [str(name) for name in file["classes"]], str(file["bundle"]), int(file["round"])
        weight, bias = arrays[average.WEIGHT], arrays[average.BIAS]
        if len(set(known)) != len(known) or len(weight) != len(known) or bias.shape != (len(known),) or after_round < 0:
            raise ValueError("its head does not fit its classes")
        if not all(array.dtype == np.float32 and np.isfinite(array).all() for array in arrays.values()):
            raise ValueError("it has values that are no numbers")
    except (KeyError, ValueError, TypeError, AttributeError, EOFError, OSError, BadZipFile) as error:
        raise ValueError(f"{path}: holds no fleet ({error}); give a file that a run has written as its `output`") from error
    return Fleet(bundle, known, arrays), after_round


def gone_on_from(path: Path, begun: Fleet) -> Tuple[Fleet, int]:
    """What `save` has written, and after which round. Classes that are new get the rows that were just imprinted; those that no device has today stay.

    Raises `ValueError` for another bundle, for pairs of another kind, and for a file that holds no fleet.
    """
    (bundle, known, arrays), after_round = read(path)
    if bundle != begun.bundle_sha256:
        raise ValueError(f"{path}: is of another bundle than the devices have")
    if _form(arrays) != _form(begun.arrays):
        raise ValueError(f"{path}: its pairs are of another kind than this run's; give the `pairs` that it was made with")
    classes = average.agree({0: dict.fromkeys(known, 1), 1: dict.fromkeys(begun.classes, 1)})
    for key in (average.WEIGHT, average.BIAS):
        rows = [arrays[key][known.index(name)] if name in known else begun.arrays[key][begun.classes.index(name)] for name in classes]
        arrays[key] = np.array(rows, np.float32)
    return Fleet(bundle, classes, arrays), after_round


def _form(arrays: Mapping[str, average.Array]) -> Mapping[str, Tuple[int, ...]]:
    """The shapes of what fleets of the same bundle and the same `pairs` have in common."""
    head = (average.WEIGHT, average.BIAS)
    return {key: array.shape[key in head :] for key, array in arrays.items() if not key.endswith("/delta")}
