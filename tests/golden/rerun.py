"""Runs the steps of every vector here again, from its own inputs, in NumPy, and compares every number:

    python tests/golden/rerun.py                                    # needs numpy
    python tests/golden/rerun.py --make NAME FROM key=value ...     # a vector from another's inputs, with other settings

Eight vectors are PyTorch's, by autograd; `aligned_f16` and `principal_decay_scale` are this program's, from inputs of theirs.
A vector is made only where doubles and slightly moved inputs give the same codes, and floats agree with doubles to 8e-6.
"""
import json
import sys
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
TOLERANCE = 1e-5


def halve(x):
    return x.astype(np.float16).astype(x.dtype)


def blocks_int8(x, block):
    """Codes, f16 scales and decoded values of blocks along rows; the last block of a row may be short."""
    codes, scales, decoded = np.zeros_like(x), [], np.zeros_like(x)
    for first in range(0, x.shape[1], block):
        part = x[:, first : first + block]
        scale = halve(np.abs(part).max(1, keepdims=True) / 127)
        codes[:, first : first + block] = np.where(scale > 0, np.clip(np.round(part / np.where(scale > 0, scale, 1)), -127, 127), 0)
        decoded[:, first : first + block] = codes[:, first : first + block] * scale
        scales.append(scale[:, 0])
    return codes, np.stack(scales, 1), decoded


def run(case, config, dtype, nudge=0.0):
    """The steps of `case`, with `config`, as dicts like those of the vector."""
    c, array = config, lambda key: np.array(case[key], dtype)
    W, bias, X, Y, U, S, V = (array(key) for key in ("W_deployed", "bias", "X", "Y", "U", "sigma", "V"))
    X = X * dtype(1 + nudge)
    r, m, n = c["rank"], *W.shape
    principal = c["start"] == "principal"
    A, B, A0, B0, age, direction = np.zeros((r, n), dtype), np.zeros((m, r), dtype), np.zeros((r, n), dtype), np.zeros((m, r), dtype), np.zeros(r, dtype), [-1] * r
    D, q, scales = np.zeros((m, n), dtype), None, None
    planes = {key: [np.zeros((r, n), dtype), np.zeros((m, r), dtype)] for key in "suMV"}
    reserve = list(range(len(S)))

    def start(k):
        p = direction[k] = reserve.pop(0)
        root = np.sqrt(S[p])
        A0[k], B0[:, k] = (root * V[p], root * U[p]) if principal else (V[p], 0)
        A[k], B[:, k], age[k] = A0[k], B0[:, k], 0
        for a, b in planes.values():
            a[k], b[:, k] = 0, 0

    def pairs():
        return dict(A=A.copy(), B=B.copy(), A0=A0.copy(), B0=B0.copy(), age=age.copy(), direction=list(direction), reserve=list(reserve))

    def forward(x):
        return x @ (W + D - dtype(c["scale"]) * B0 @ A0).T + bias + dtype(c["scale"]) * (x @ A.T) @ B.T

    for k in range(r):
        start(k)
    result = dict(start=pairs(), steps=[])
    for t in range(1, len(X) + 1):
        x = X[t - 1]
        y = forward(x)
        dy = 2 * (y - Y[t - 1]) / y.size
        grads = [dtype(c["scale"]) * (dy @ B).T @ x, dtype(c["scale"]) * dy.T @ (x @ A.T)]
        step = dict(step=t, loss=((y - Y[t - 1]) ** 2).mean(), y=y, dA=grads[0], dB=grads[1])
        age += 1
        for w, g, s, u in zip((A, B), grads, planes["s"], planes["u"]):
            now = np.abs(w * g)
            s[:] = c["beta_sensitivity"] * s + (1 - c["beta_sensitivity"]) * now
            u[:] = c["beta_uncertainty"] * u + (1 - c["beta_uncertainty"]) * np.abs(now - s)
        importance = (planes["s"][1] * planes["u"][1]).mean(0) + (planes["s"][0] * planes["u"][0]).mean(1)
        for w, w0, g, M, Q, shape in zip((A, B), (A0, B0), grads, planes["M"], planes["V"], ((-1, 1), (1, -1))):
            M[:] = c["beta1"] * M + (1 - c["beta1"]) * g
            Q[:] = c["beta2"] * Q + (1 - c["beta2"]) * g * g
            first, second = (1 - c["beta1"] ** age).reshape(shape), (1 - c["beta2"] ** age).reshape(shape)
            w -= case["lr"] * c["decay"] * (w - w0)
            w -= case["lr"] * (M / first) / (np.sqrt(Q / second) + c["eps"])
        step |= dict(importance=importance, A=A.copy(), B=B.copy())
        if c["interval"] and t % c["interval"] == 0:
            before = forward(x)
            chosen = [int(k) for k in np.argsort(importance, kind="stable") if age[k] >= c["min_age"]][: c["fuse"]]
            chosen = chosen if c["wrap"] else chosen[: len(reserve)]
            if chosen:
                terms = [(c["scale"] * (B[:, k] - B0[:, k]), A[k]) for k in chosen]
                terms += [(c["scale"] * B0[:, k], A[k] - A0[k]) for k in chosen if principal]
                D = D + sum(np.outer(b, a) for b, a in terms).astype(dtype)
                if c["delta"] == "int8":
                    q, scales, D = blocks_int8(D, c["block"])
            for k in chosen:
                reserve.extend([direction[k]] if c["wrap"] else [])
                start(k)
            after = forward(x)
            step["recompose"] = dict(chosen=chosen, delta=D.copy(), y_before=before, y_after=after, jump=np.abs(after - before).max(), **pairs())
            if q is not None:
                step["recompose"] |= dict(delta_q=q.copy(), delta_scale=scales.copy())
        result["steps"].append(step)
    return result


def worst(found, expected):
    """The largest difference, and where."""
    if isinstance(found, dict):
        return max(((*worst(found[k], expected[k])[:1], f"{k} {worst(found[k], expected[k])[1]}") for k in found), default=(0.0, ""))
    if isinstance(found, list) and found and isinstance(found[0], dict):
        return max(worst(f, e) for f, e in zip(found, expected, strict=True))
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return (float(np.abs(found - expected).max()) if found.size else 0.0, "") if found.shape == expected.shape else (np.inf, "shape")


def codes(result):
    return [step["recompose"].get("delta_q", np.zeros(0)).tolist() + step["recompose"]["chosen"] for step in result["steps"] if "recompose" in step]


def plain(z):
    if isinstance(z, dict):
        return {key: plain(value) for key, value in z.items()}
    if isinstance(z, np.ndarray):
        return plain(z.tolist())
    return [plain(v) for v in z] if isinstance(z, list) else float(f"{z:.9g}") if isinstance(z, (float, np.floating)) else z


def make(name, source, settings):
    case = json.loads((FOLDER / f"{source}.json").read_text())
    config = case["config"] | {key: type(case["config"][key])(value) for key, value in (s.split("=") for s in settings)}
    found, double = run(case, config, np.float32), run(case, config, np.float64)
    moved = [run(case, config, np.float32, by) for by in (3e-7, -3e-7)]
    assert all(codes(found) == codes(other) for other in (double, *moved)), "the codes hang on the last bit of a sum"
    assert worst(found, double)[0] < 8e-6, worst(found, double)
    (FOLDER / f"{name}.json").write_text(json.dumps(plain(case | dict(config=config) | found)))


if sys.argv[1:2] == ["--make"]:
    make(sys.argv[2], sys.argv[3], sys.argv[4:])
for path in sorted(FOLDER.glob("*.json")):
    case = json.loads(path.read_text())
    difference, where = worst(run(case, case["config"], np.float32), case)
    print(f"{path.stem:24} worst {difference:.1e} ({where.strip()})")
    assert difference < TOLERANCE, path
