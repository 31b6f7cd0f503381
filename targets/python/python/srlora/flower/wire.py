"""Arrays as they are sent: fewer bytes, and what is rounded is rounded for all. numpy alone: no Flower.

| precision | the fleet, to devices | an update, to the server | bytes a number |
|---|---|---|---|
| `int8` | f16 | int8, what it differs from the fleet by | 2; 1 and 2 for each 32 |
| `fp16` | f16 | f16 | 2; 2 |
| `fp32` | f32 | f32 | 4; 4 |

In int8, the numbers of an array are taken row by row in blocks of 32, the last one perhaps shorter, as in a delta. A block has a scale s
in f16, its largest magnitude / 127, and each number a whole code q from -127 to 127:

    number = fleet's number + s q,   in f32: the product rounded, then the sum.

Whoever has the fleet and the codes gets the same bits; so the mean of such numbers can be computed again to the last bit. What it rounds off
is at most half of s.
"""

from typing import Dict, Literal, Mapping, NamedTuple, Union

import numpy as np
import numpy.typing as npt

from .average import Array, Arrays

Precision = Literal["int8", "fp16", "fp32"]
PRECISIONS = ("int8", "fp16", "fp32")
BLOCK = 32
"""Numbers that share a scale."""
SCALES = "/scales"
"""What the key of an array's scales ends with."""

Sent = Dict[str, Union[npt.NDArray[np.int8], npt.NDArray[np.float16], Array]]


class Codes(NamedTuple):
    """What an array differs from another by, in int8."""

    codes: npt.NDArray[np.int8]
    """In the array's shape."""
    scales: npt.NDArray[np.float16]
    """One for each block."""


def blocks(count: int) -> int:
    """How many blocks so many numbers have."""
    return -(-count // BLOCK)


def coded(array: Array, start: Array) -> Codes:
    """`array` less `start` in codes. Where it is not finite, or too far for f16, its block's scale is not finite either."""
    with np.errstate(over="ignore", invalid="ignore"):
        moved = np.zeros(blocks(array.size) * BLOCK, np.float32)
        moved[: array.size] = (array - start).ravel()
        rows = np.reshape(moved, (-1, BLOCK))
        scales = (np.abs(rows).max(axis=1) / np.float32(127)).astype(np.float16)
        step = scales.astype(np.float32)[:, None]
        codes = np.rint(np.nan_to_num(np.divide(rows, step, out=np.zeros_like(rows), where=step > 0))).clip(-127, 127)
    return Codes(np.reshape(codes.astype(np.int8).ravel()[: array.size], array.shape), scales)


def decoded(sent: Codes, start: Array) -> Array:
    """The array that codes tell, where `start` is what they were made against. `coded` tells what shapes they have."""
    steps = np.reshape(np.repeat(sent.scales.astype(np.float32), BLOCK)[: start.size], start.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.add(start, np.multiply(steps, sent.codes, dtype=np.float32), dtype=np.float32)


def fleet_as_sent(arrays: Mapping[str, Array], precision: Precision) -> Arrays:
    """The fleet's arrays as they arrive. What is too large for f16 becomes infinite, and is refused as that."""
    if precision == "fp32":
        return dict(arrays)
    with np.errstate(over="ignore"):
        return {key: array.astype(np.float16).astype(np.float32) for key, array in arrays.items()}


def update_as_sent(arrays: Mapping[str, Array], start: Mapping[str, Array], precision: Precision) -> Arrays:
    """An update's arrays as they arrive; `start` is what the device was sent."""
    if precision == "int8":
        return {key: decoded(coded(array, start[key]), start[key]) for key, array in arrays.items()}
    return fleet_as_sent(arrays, precision)


def size(arrays: Mapping[str, Array], precision: Precision) -> int:
    """Bytes of the values of an update as it is sent, scales included; without what Flower and HTTP add."""
    each = {"int8": 1, "fp16": 2, "fp32": 4}[precision]
    return sum(each * array.size + (2 * blocks(array.size) if precision == "int8" else 0) for array in arrays.values())
