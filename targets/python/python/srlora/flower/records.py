"""Fleets and updates as Flower's records, and back. What comes from elsewhere is looked at before anything of its size is made."""

import io
import math
from typing import Dict, List, Mapping, Tuple, Union, cast

import numpy as np
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord, ConfigRecord, ConfigRecordValues, Message, RecordDict

from .average import Array, Arrays, Fleet, Refused, Update

KINDS = (np.dtype("<f4"), np.dtype("<f2"))
ARRAYS, CONFIG, METRICS = "arrays", "config", "metrics"

Value = Union[bool, int, float, str, List[str], List[int]]


def array_record(arrays: Mapping[str, Array], half: bool) -> ArrayRecord:
    """The arrays by key, each as the bytes that `numpy.save` writes; in f16 where that is asked for."""
    kind = "<f2" if half else "<f4"
    with np.errstate(over="ignore"):
        return ArrayRecord({key: FlowerArray(np.ascontiguousarray(array, kind)) for key, array in arrays.items()})


def arrays_of(record: ArrayRecord, node: int) -> Arrays:
    """The arrays of a record, f32 or f16, in f32. Raises `Refused`, naming the array, for anything else."""
    arrays: Arrays = {}
    for key, value in record.items():
        try:
            stream = io.BytesIO(value.data)
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, columns_first, kind = cast(Tuple[Tuple[int, ...], bool, "np.dtype[np.generic]"], read(stream))
            count = math.prod(shape)
            body = value.data[stream.tell() :]
            if kind not in KINDS or columns_first or len(body) != kind.itemsize * count:
                raise ValueError(f"is {kind} {list(shape)} in {len(body)} bytes, and has to be float32 or float16, row by row")
        except (ValueError, TypeError, EOFError) as error:
            raise Refused(node, key, f"cannot be read: {error}") from error
        arrays[key] = np.reshape(np.frombuffer(body, kind).astype(np.float32), shape)
    return arrays


def _of_kind(config: Mapping[str, object], name: str, fits: bool, kind: str) -> None:
    if not fits:
        raise ValueError(f"`{name}` is {config.get(name)!r}, and has to be {kind}")


def text(config: Mapping[str, object], name: str) -> str:
    """A text of a record, or of a run's or a node's configuration. This and the next raise `ValueError`, naming what is wrong."""
    value = config.get(name)
    _of_kind(config, name, isinstance(value, str), "a text")
    return str(value)


def number(config: Mapping[str, object], name: str) -> float:
    """A number, whole or not."""
    value = config.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"`{name}` is {value!r}, and has to be a number")
    return float(value)


def whole(config: Mapping[str, object], name: str) -> int:
    """A whole number."""
    value = config.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"`{name}` is {value!r}, and has to be a whole number")
    return value


def flag(config: Mapping[str, object], name: str) -> bool:
    """Yes or no."""
    value = config.get(name)
    _of_kind(config, name, isinstance(value, bool), "true or false")
    return bool(value)


def texts(config: Mapping[str, object], name: str) -> List[str]:
    """A list of texts."""
    listed = _listed(config, name)
    _of_kind(config, name, all(isinstance(each, str) for each in listed), "a list of texts")
    return [str(each) for each in listed]


def wholes(config: Mapping[str, object], name: str) -> List[int]:
    """A list of whole numbers."""
    return [whole({name: each}, name) for each in _listed(config, name)]


def _listed(config: Mapping[str, object], name: str) -> List[object]:
    value = config.get(name)
    _of_kind(config, name, isinstance(value, list), "a list")
    return cast(List[object], value)


def config_record(config: Mapping[str, Value]) -> ConfigRecord:
    """Settings, or what is told, as a record."""
    return ConfigRecord(cast(Dict[str, ConfigRecordValues], dict(config)))


def fleet_record(fleet: Fleet, settings: Mapping[str, Value]) -> RecordDict:
    """What a device is sent."""
    config: Dict[str, Value] = {"bundle": fleet.bundle_sha256, "classes": fleet.classes, **settings}
    return RecordDict({ARRAYS: array_record(fleet.arrays, bool(settings["half"])), CONFIG: config_record(config)})


def fleet_of(content: RecordDict) -> Fleet:
    """What a device was sent."""
    config = content.config_records[CONFIG]
    return Fleet(text(config, "bundle"), texts(config, "classes"), arrays_of(content.array_records[ARRAYS], 0))


def update_record(update: Update, half: bool) -> RecordDict:
    """What a device sends back."""
    config: Dict[str, Value] = {"bundle": update.bundle_sha256, "classes": update.classes, "photos": update.photos}
    return RecordDict({ARRAYS: array_record(update.arrays, half), CONFIG: config_record(config)})


def update_of(message: Message) -> Update:
    """What a device has sent back. Raises `Refused` for what is no update."""
    node = message.metadata.src_node_id
    try:
        config = message.content.config_records[CONFIG]
        arrays = arrays_of(message.content.array_records[ARRAYS], node)
        return Update(node, text(config, "bundle"), texts(config, "classes"), wholes(config, "photos"), arrays)
    except (KeyError, ValueError) as error:
        if isinstance(error, Refused):
            raise
        raise Refused(node, "the reply", f"cannot be read: {error}") from error
