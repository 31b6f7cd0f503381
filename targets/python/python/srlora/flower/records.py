"""Fleets and updates as Flower's records, and back. What comes from elsewhere is looked at before anything of its size is made."""

import math
import re
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union, cast

import numpy as np
import numpy.typing as npt
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord, ConfigRecord, ConfigRecordValues, Message, RecordDict

from .average import BIAS, WEIGHT, Array, Arrays, Fleet, Refused, Update, rows_of
from .wire import PRECISIONS, SCALES, Codes, Precision, blocks, coded, decoded

FLOATS = (np.dtype("<f4"), np.dtype("<f2"))
CODES = np.dtype("i1")
HEADER = re.compile(rb"\{'descr': '(<f4|<f2|\|i1)', 'fortran_order': False, 'shape': \(((?:\d{1,12}(?:, |,|(?=\))))*)\), \} *\n")
"""What `numpy.save` says of an array that a fleet may hold: its type and its shape. Nothing else is read, and nothing evaluated."""
ARRAYS, CONFIG, METRICS = "arrays", "config", "metrics"
MOST_CLASSES = 4096
"""Classes that one device may have photos of."""
MOST_NAME_BYTES = 255
"""Bytes of the longest name of a class: it is the name of a folder."""
NOT_TAKEN = "not-taken"
"""In an update's configuration: why a device's store has refused the fleet's arrays, where it has."""

Value = Union[bool, int, float, str, List[str], List[int]]


def array_record(arrays: Mapping[str, Array], precision: Precision) -> ArrayRecord:
    """The arrays by key, each as the bytes that `numpy.save` writes; in f16 but for `fp32`."""
    kind = "<f4" if precision == "fp32" else "<f2"
    with np.errstate(over="ignore"):
        return ArrayRecord({key: FlowerArray(np.ascontiguousarray(array, kind)) for key, array in arrays.items()})


def coded_record(arrays: Mapping[str, Array], start: Mapping[str, Array]) -> ArrayRecord:
    """What the arrays differ from `start` by, in int8: under each key the codes, and under the key and `/scales` their scales."""
    sent: Dict[str, FlowerArray] = {}
    for key, array in arrays.items():
        codes = coded(array, start[key])
        sent[key], sent[key + SCALES] = FlowerArray(codes.codes), FlowerArray(codes.scales)
    return ArrayRecord(sent)


def arrays_of(record: ArrayRecord, node: int, start: Optional[Mapping[str, Array]] = None) -> Arrays:
    """The arrays of a record in f32: of f32, of f16, or of codes against `start`. Raises `Refused`, naming the array, for anything else."""
    read = {key: _read(value.data, (node, key)) for key, value in record.items()}
    arrays: Arrays = {}
    for key, array in read.items():
        if array.dtype == CODES:
            arrays[key] = _decoded(read, key, node, start or {})
        elif not (key.endswith(SCALES) and key[: -len(SCALES)] in read):
            arrays[key] = array.astype(np.float32)
    return arrays


def _read(data: bytes, of: Tuple[int, str]) -> "npt.NDArray[Any]":
    """The array that `numpy.save` has written: no larger than its bytes are, and a view of them."""
    start = 10 + int.from_bytes(data[8:10], "little")
    told = HEADER.fullmatch(data[10:start]) if data[:8] == b"\x93NUMPY\x01\x00" else None
    if told is None:
        raise Refused(*of, "cannot be read: it has to be an array of float32, float16 or int8, row by row, as `numpy.save` writes it")
    kind, shape, body = np.dtype(told[1].decode()), tuple(map(int, re.findall(rb"\d+", told[2]))), data[start:]
    if len(shape) > 4 or len(body) != kind.itemsize * math.prod(shape):
        raise Refused(*of, f"cannot be read: it says that it is {kind} {list(shape)}, and has {len(body)} bytes")
    return np.reshape(np.frombuffer(body, kind), shape)


def _decoded(read: Mapping[str, "npt.NDArray[Any]"], key: str, node: int, start: Mapping[str, Array]) -> Array:
    codes, scales = read[key], read.get(key + SCALES)
    if key not in start:
        raise Refused(node, key, "is int8, and there is no array of the fleet that it could be meant against")
    if codes.shape != start[key].shape:
        raise Refused(node, key, f"is int8 {list(codes.shape)}, and has to be int8 {list(start[key].shape)}")
    if scales is None or scales.dtype != np.float16 or scales.shape != (blocks(codes.size),):
        raise Refused(node, key + SCALES, f"have to be float16 [{blocks(codes.size)}], one for each block of {key}")
    return decoded(Codes(codes, scales), start[key])


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
    _of_kind(config, name, math.isfinite(value), "a number")
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


def precision(config: Mapping[str, object]) -> Precision:
    """What arrays are sent in."""
    value = text(config, "precision")
    _of_kind(config, "precision", value in PRECISIONS, f"one of {', '.join(PRECISIONS)}")
    return cast(Precision, value)


def config_record(config: Mapping[str, Value]) -> ConfigRecord:
    """Settings, or what is told, as a record."""
    return ConfigRecord(cast(Dict[str, ConfigRecordValues], dict(config)))


def fleet_record(fleet: Fleet, settings: Mapping[str, Value]) -> RecordDict:
    """What a device is sent."""
    config: Dict[str, Value] = {"bundle": fleet.bundle_sha256, "classes": fleet.classes, **settings}
    return RecordDict({ARRAYS: array_record(fleet.arrays, precision(config)), CONFIG: config_record(config)})


def fleet_of(content: RecordDict) -> Fleet:
    """What a device was sent."""
    config = content.config_records[CONFIG]
    return Fleet(text(config, "bundle"), texts(config, "classes"), arrays_of(content.array_records[ARRAYS], 0))


def update_record(update: Update, fleet: Optional[Fleet], sent_in: Precision) -> RecordDict:
    """What a device sends back, to a server that has `fleet`; without one nothing can be told as a difference from it."""
    config: Dict[str, Value] = {"bundle": update.bundle_sha256, "classes": update.classes, "photos": update.photos}
    if fleet is not None and sent_in == "int8":
        arrays = coded_record(update.arrays, rows_of(fleet, update.classes))
    else:
        arrays = array_record(update.arrays, sent_in)
    return RecordDict({ARRAYS: arrays, CONFIG: config_record(config)})


def update_of(message: Message, fleet: Optional[Fleet] = None) -> Update:
    """What a device has sent back that had `fleet`. Raises `Refused` for what is no update."""
    node = message.metadata.src_node_id
    try:
        config = message.content.config_records[CONFIG]
        classes = texts(config, "classes")
        strange = [name for name in classes if fleet is not None and name not in fleet.classes]
        if strange:
            raise Refused(node, "classes", f"are not those agreed on: {', '.join(strange)}; start the run anew")
        start = rows_of(fleet, classes) if fleet else None
        arrays = arrays_of(message.content.array_records[ARRAYS], node, start)
        for key, dimensions in ((WEIGHT, 2), (BIAS, 1)):
            if key not in arrays or arrays[key].ndim != dimensions or len(arrays[key]) != len(classes):
                raise Refused(node, key, "is missing, or has not a row for each of its classes")
        return Update(node, text(config, "bundle"), classes, wholes(config, "photos"), arrays)
    except (KeyError, ValueError) as error:
        if isinstance(error, Refused):
            raise
        raise Refused(node, "the reply", f"cannot be read: {error}") from error


def counted(content: RecordDict) -> Dict[str, int]:
    """The classes of a device, and how many photos it has of each. Raises `KeyError` or `ValueError` for what cannot be meant."""
    config = content.config_records[CONFIG]
    names, photos = texts(config, "classes"), wholes(config, "photos")
    if len(names) > MOST_CLASSES:
        raise ValueError(f"they are {len(names)}, and a device may have {MOST_CLASSES}")
    for name in names:
        if not (1 <= len(name.encode()) <= MOST_NAME_BYTES and name.isprintable()) or name[0] == "." or set(name) & set("/\\"):
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


def bytes_of(message: Message) -> int:
    """Bytes of the arrays of a message, each with the header that `numpy.save` gives it."""
    return sum(len(array.data) for array in message.content.array_records[ARRAYS].values())
