"""What a call of `predict` costs beyond the work in it, on MobileNetV2.

    python targets/python/tests/cost.py MODEL PHOTO [CALLS]

`examine` tells how long the Rust in a call took, decoding included; the rest of the call is Python's and the binding's. That is the copy
of an array, the interpreter's lock, and the answer.
"""

import pathlib
import statistics
import sys
import tempfile
import time

import numpy as np

import srlora

model, photo = sys.argv[1:3]
calls = int(sys.argv[3]) if len(sys.argv) > 3 else 200
with tempfile.TemporaryDirectory() as folder:
    place = pathlib.Path(folder)
    bundle, store = place / "mobilenet.bundle", place / "my.store"
    srlora.pack(model, bundle, preset="torchvision")
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    srlora.train(bundle, [noise, 255 - noise], store, labels=["a", "b"], method="imprint", progress=False)
    classifier = srlora.Classifier(bundle, store)
    large = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), np.uint8)
    for name, image in {
        "a file": photo,
        "an array of 224 x 224": noise,
        "a strided array of 224 x 224": noise[::-1, ::-1],
        "an array of 1920 x 1080": large,
    }.items():
        shares, times = [], []
        for _ in range(calls):
            begin = time.perf_counter()
            answer = classifier.examine(image, top=5)
            took = 1e3 * (time.perf_counter() - begin)
            times.append(took)
            shares.append((took - answer["ms"]) / answer["ms"])
        print(f"{name}: {statistics.median(times):.2f} ms a call, {statistics.median(shares):.2%} of it beyond Rust")
