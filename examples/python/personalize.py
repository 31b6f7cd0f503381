"""Personalize a classifier in ten lines.

A network that has only ever seen printed characters learns handwritten digits, from twelve photos of each.

    pip install srlora
    python examples/python/personalize.py

Run it from the root of the repository. The cells (`# %%`) are those of a notebook: VS Code, PyCharm and Jupytext open it as one.
"""

# %% What is needed: a bundle, which `srlora.pack` has made of an ONNX file, and photos, with a folder for each class.
import pathlib
import tempfile

import numpy as np

import srlora

models = pathlib.Path("models/handwriting")
bundle, photos, others = models / "handwriting.bundle", models / "train", models / "val"
store = pathlib.Path(tempfile.mkdtemp()) / "my.store"

# %% The ten lines: a lesson, and what it has come to.
report = srlora.train(bundle, photos, store, epochs=30, val=others)
print(f"learned {len(report['classes'])} classes in {report['seconds']:.1f} s")
print(f"accuracy {report['val_accuracy_before']:.1%} imprinted, {report['val_accuracy']:.1%} trained")

classifier = srlora.Classifier(bundle, store)
for photo in sorted(others.glob("7/*.png"))[:3]:
    (label, probability), *_ = classifier.predict(photo)
    print(f"{photo.name}: {label} with {probability:.0%}")

# %% A camera gives arrays, not files. Any array of bytes is taken as it lies in memory; here, a picture that a program has drawn.
frame = np.full((48, 48, 3), 20, np.uint8)
frame[8:40, 21:27] = 235  # an upright stroke
print("a stroke is taken for", classifier.predict(frame, top=1)[0][0])

# %% Many images give a matrix, and the features that the head reads are there for methods of your own.
images = sorted(others.glob("*/*.png"))
probabilities = classifier.predict_proba(images)
truth = np.array([image.parent.name for image in images])
guesses = np.array(classifier.classes_)[probabilities.argmax(axis=1)]
print(f"{(guesses == truth).mean():.1%} of {len(images)} images, features of {classifier.embed(images[:2]).shape[1]} numbers")

# %% The user shows two more classes. What the store has kept of the first lesson stands in for its photos.
drawings: list[srlora.types.Image] = []
for shift in range(6):
    cross, ring = np.zeros((2, 32, 32), np.uint8)
    cross[13 + shift % 3 : 17 + shift % 3, 4:28] = cross[4:28, 10 + shift : 14 + shift] = 220
    ring[6:26, 6 + shift % 4 : 26 + shift % 4] = 220
    ring[10:22, 10 + shift % 4 : 22 + shift % 4] = 0
    drawings += [cross, ring]
further = srlora.train(bundle, drawings, store, labels=["cross", "ring"] * 6, further=True, epochs=5)
print("after a further lesson:", ", ".join(further["classes"]))

# %% Lessons can be taken back, and taken back again.
learned = srlora.Store(store)
print("generations", learned.generations, "of which", learned.current, "counts")
learned.rollback()
print("after rollback:", ", ".join(learned.classes_))
