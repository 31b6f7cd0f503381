"""How far an update may go, the noise that hides it, and what that noise promises.

**Clipping.** An update u is what a device sends less what it was sent, over all arrays together. Where |u| (L2) is above C, C u / |u| is
sent in its place. No device can move the mean by more than its share of C.

**Noise.** The server adds normal noise of standard deviation z C to the sum of K clipped updates, each weighted 1, and divides by K.
C is there the longest update that the server lets through: by rounding, one may be a hundredth longer than it was clipped to. Whether one device took part changes the sum by C at most, so T rounds of all devices are a Gaussian mechanism of sensitivity
sqrt(T) / z. It keeps (epsilon, delta)-differential privacy with (Balle and Wang, arXiv 1805.06530, theorem 8)

    delta = P(mu/2 - epsilon/mu) - exp(epsilon) P(-mu/2 - epsilon/mu),    mu = sqrt(T) / z,    P the normal distribution function.

That is exact, not a bound, and for one run: another one that goes on from its `output` spends as much again. The device is what is protected: all of its photos together. The server sees each update before the noise.
"""

import math
from typing import Mapping, Sequence, Tuple

import numpy as np

from .average import BIAS, SLACK, WEIGHT, Array, Arrays, Fleet, Update, distance, rows_of

CLIP = 5.0
"""How far an update may go where nothing else is asked for: a quarter more than lessons were seen to go at most (docs/fleet.md)."""


def clip(arrays: Mapping[str, Array], start: Mapping[str, Array], longest: float) -> Arrays:
    """`arrays`, or what lies between them and `start` at the distance `longest`. Nothing is divided by 0: an update of 0 stays."""
    length = distance(arrays, start)
    if length <= longest:
        return dict(arrays)
    share = longest / length
    return {key: (start[key] + share * (array - start[key])).astype(np.float32) for key, array in arrays.items()}


def noised_mean(fleet: Fleet, updates: Sequence[Update], bound: Tuple[float, float], random: np.random.Generator) -> Fleet:
    """The fleet plus the sum of what updates differ from it and noise, divided by their number. `bound` is C and z.

    A row of the head that a device lacks has not moved there. Each update counts 1, whatever its photos.
    """
    clip_to, z = bound
    arrays: Arrays = dict(fleet.arrays)
    for key in [key for key in fleet.arrays if not key.endswith("/delta")]:
        moved = random.normal(0.0, z * clip_to * SLACK, fleet.arrays[key].shape)
        for update in sorted(updates, key=lambda update: update.node):
            if key in (WEIGHT, BIAS):
                rows = [fleet.classes.index(name) for name in update.classes]
                moved[rows] += update.arrays[key].astype(np.float64) - fleet.arrays[key][rows]
            else:
                moved += update.arrays[key].astype(np.float64) - fleet.arrays[key]
        arrays[key] = (fleet.arrays[key] + moved / len(updates)).astype(np.float32)
    return fleet._replace(arrays=arrays)


def noised_start(fleet: Fleet, updates: Sequence[Update], z: float, random: np.random.Generator) -> Fleet:
    """The fleet before its first lesson, with noise on the rows that devices have imprinted.

    Each device's rows together are clipped to the length C = 1, the mean gets noise as in `noised_mean`, and each row the length 1.
    """
    blank = {WEIGHT: np.zeros_like(fleet.arrays[WEIGHT]), BIAS: np.zeros_like(fleet.arrays[BIAS])}
    bare = Fleet(fleet.bundle_sha256, fleet.classes, blank)
    short = [
        update._replace(arrays=clip({key: update.arrays[key] for key in blank}, rows_of(bare, update.classes), 1.0))
        for update in updates
    ]
    arrays = noised_mean(bare, short, (1.0, z), random).arrays
    lengths = np.linalg.norm(arrays[WEIGHT], axis=1, keepdims=True)
    rows = arrays[WEIGHT] / np.maximum(lengths, np.float32(1e-30))
    return fleet._replace(arrays={**fleet.arrays, WEIGHT: rows.astype(np.float32), BIAS: np.zeros_like(arrays[BIAS])})


def delta(epsilon: float, multiplier: float, rounds: int) -> float:
    """The least delta that `rounds` rounds with noise of `multiplier` z keep with `epsilon`."""
    mu = math.sqrt(rounds) / multiplier
    upper, lower = mu / 2 - epsilon / mu, -mu / 2 - epsilon / mu
    # exp(epsilon) P(lower) is below 1, and its factors may not be numbers.
    return max(0.0, _normal(upper) - math.exp(min(0.0, epsilon + _log_normal(lower))))


def epsilon(multiplier: float, rounds: int, at: float) -> float:
    """The least epsilon that `rounds` rounds with noise of `multiplier` z keep with a delta of `at`; infinity without noise."""
    if multiplier <= 0:
        return math.inf
    low, high = 0.0, 1.0
    while delta(high, multiplier, rounds) > at:
        low, high = high, 2 * high
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if delta(middle, multiplier, rounds) > at else (low, middle)
    return high


def multiplier(wanted: float, rounds: int, at: float) -> float:
    """The least z with which `rounds` rounds keep `wanted` epsilon at a delta of `at`."""
    low, high = 1e-3, 1e6
    for _ in range(200):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if epsilon(middle, rounds, at) > wanted else (low, middle)
    return high


def _normal(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2


def _log_normal(x: float) -> float:
    """ln P(x); far below 0 by the first terms of its series."""
    if x > -30:
        return math.log(_normal(x))
    return -x * x / 2 - math.log(-x * math.sqrt(2 * math.pi)) - 1 / (x * x)
