#!/usr/bin/env python3
"""Tries to get photos out of what a device sends: digits of the demo, 8 x 8 grey values each, for 1 and for 8 photos.

    invert.py [--draws 5] [--steps 200] [-o docs/fleet-inversion.svg]

By someone who has the bundle, and no photo of the device. First what is looked at:

    imprint    the row that a class's photos imprint, which each device sends before the first round as it is
    gradient   the gradient of the head in one step of plain descent on a batch. It is not sent: a lesson has many steps, and AdamW.
               So it is what an update of the shortest lesson there could be would tell, or more

Then two attacks. `search` changes 8 x 8 pixels until the network makes of them what was sent: Adam on the squared difference, its derivatives by differences,
through `Classifier.embed`. It begins with the mean of printed-like digits of the demo. `decoder` has photos of the same kind by others: a ridge regression from features to pixels, for imprinted rows. Measured is the correlation with the true photo; and,
as what it has to beat, that of the mean it began with.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np
import srlora
from PIL import Image
from place import BUNDLE, HANDWRITING
from sklearn.datasets import load_digits

RATE, NUDGE = 0.5, 1.0


def enlarged(pixels):
    """8 x 8 of 0..16, 16 is ink, as the demo's photos are: 32 x 32 RGB."""
    ink = Image.fromarray((255 - np.clip(pixels, 0, 16) * 255 / 16).astype(np.uint8))
    return np.repeat(np.asarray(ink.resize((32, 32), Image.BICUBIC))[:, :, None], 3, axis=2)


class Network:
    """The bundle's features, and a head that the demo's own photos have imprinted: pairs are at their start, as in a fleet's first round."""

    def __init__(self):
        with tempfile.TemporaryDirectory() as place:
            store = Path(place) / "store"
            srlora.train(BUNDLE, HANDWRITING / "train", store, method="imprint", progress=False)
            self.classifier = srlora.Classifier(BUNDLE, store)
        self.scale = 20.0
        photos = sorted((HANDWRITING / "train").glob("*/*.png"))
        found = self.unit(self.classifier.embed([str(path) for path in photos]))
        labels = np.array([int(path.parent.name) for path in photos])
        self.head = self.scale * self.unit(np.array([found[labels == digit].mean(axis=0) for digit in range(10)]))
        small = [16 - np.asarray(Image.open(path).convert("L").resize((8, 8), Image.BOX)) * 16 / 255 for path in photos]
        self.means = np.array([np.mean([each for each, label in zip(small, labels) if label == digit], axis=0) for digit in range(10)])

    @staticmethod
    def unit(rows):
        return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)

    def features(self, photos):
        return self.unit(self.classifier.embed([enlarged(photo) for photo in photos]))

    def imprinted(self, features, labels):
        """Of each class among the labels, its row."""
        return np.array([self.unit(features[labels == digit].mean(axis=0)) for digit in sorted(set(labels))])

    def gradient(self, features, labels):
        """Of the head, of the mean loss of a batch."""
        logits = features @ self.head.T
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        shares[np.arange(len(labels)), labels] -= 1
        return shares.T @ features / len(labels)


def attack(network, sent, labels, tells, steps):
    """The photos that tell what was sent, as far as they were found; and how far off they are, as a share of what was sent."""
    photos = network.means[labels].astype(np.float64)
    first, second = np.zeros_like(photos), np.zeros_like(photos)
    off = lambda features: float(np.square(tells(features, labels) - sent).sum())
    for step in range(1, steps + 1):
        around = np.repeat(photos, 65, axis=0).reshape(len(photos), 65, 8, 8)
        for at in range(64):
            around[:, 1 + at, at // 8, at % 8] += NUDGE
        features = network.features(around.reshape(-1, 8, 8)).reshape(len(photos), 65, -1)
        here, slope = features[:, 0], np.zeros_like(photos)
        for nth in range(len(photos)):
            for at in range(64):
                nudged = here.copy()
                nudged[nth] = features[nth, 1 + at]
                slope[nth, at // 8, at % 8] = (off(nudged) - off(here)) / NUDGE
        first, second = 0.9 * first + 0.1 * slope, 0.99 * second + 0.01 * slope**2
        photos -= RATE * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.99**step)) + 1e-12)
        photos = np.clip(photos, 0, 16 - NUDGE)
    return photos, off(network.features(photos)) / float(np.square(sent).sum())


def decoded(network, digits, draws, count):
    """Of `draws` rows of `count` photos each: the correlation of what a ridge regression makes of them with the photos, and that of the
    class's mean. It has learned from all digits but those of the row."""
    features, pixels = network.features(digits.images), digits.images.reshape(-1, 64)
    found, means = [], []
    for draw in range(draws):
        random = np.random.default_rng(draw)
        digit = random.integers(10)
        rows = random.permutation(np.flatnonzero(digits.target == digit))[:count]
        others = np.setdiff1d(np.arange(len(pixels)), rows)
        x, y = features[others], pixels[others]
        weights = np.linalg.solve(x.T @ x + 1e-3 * len(x) * np.eye(x.shape[1]) / x.shape[1], x.T @ y)
        guess = network.imprinted(features[rows], digits.target[rows])[0] @ weights
        mean = pixels[others][digits.target[others] == digit].mean(axis=0)
        found += [np.corrcoef(guess, photo)[0, 1] for photo in pixels[rows]]
        means += [np.corrcoef(mean, photo)[0, 1] for photo in pixels[rows]]
    return float(np.mean(found)), float(np.mean(means))


def likeness(photos, found):
    """Correlation of pixels, photo by photo; of photos of the same class, in the order in which they fit best."""
    table = np.array([[np.corrcoef(photo.ravel(), other.ravel())[0, 1] for other in found] for photo in photos])
    from scipy.optimize import linear_sum_assignment

    return float(table[linear_sum_assignment(-table)].mean())


def drawn(panels):
    """Rows of 8 x 8 digits as SVG: (name, photos) each."""
    parts, y = [], 4
    for name, photos in panels:
        parts.append(f'<text x="4" y="{y + 22}">{name}</text>')
        for nth, photo in enumerate(photos):
            for at, ink in enumerate(np.clip(photo, 0, 16).ravel()):
                grey = int(255 - ink * 255 / 16)
                parts.append(f'<rect x="{190 + 44 * nth + 5 * (at % 8)}" y="{y + 5 * (at // 8)}" width="5" height="5" fill="rgb({grey},{grey},{grey})"/>')
        y += 48
    style = "text { font: 12px system-ui, sans-serif; fill: #6b7280; }"
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 550 {y}" role="img"><title>Photos, and what was found of them</title><style>{style}</style>\n' + "\n".join(parts) + "\n</svg>\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 8], help="photos of a batch")
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    network, digits, panels = Network(), load_digits(), []
    cases = [("imprint, 1 photo", 1, "one"), ("gradient, batch 1", 1, "any"), ("imprint, 8 photos of a class", 8, "one"), ("gradient, batch 8", 8, "each")]
    for count in args.counts:
        found, mean = decoded(network, digits, 40, count)
        print(f"decoder, imprint of {count}          correlation {found:.3f}, of the class's mean {mean:.3f}", flush=True)
    for name, count, of in (case for case in cases if case[1] in args.counts):
        seen = {"found": [], "mean": [], "off": []}
        for draw in range(args.draws):
            random = np.random.default_rng(draw)
            digit = random.integers(10)
            pool = random.permutation(np.flatnonzero(digits.target == digit) if of == "one" else len(digits.target))
            if of == "each":
                pool = [next(at for at in pool if digits.target[at] == each) for each in random.permutation(10)]
            photos, labels = digits.images[pool[:count]], digits.target[pool[:count]]
            tells = network.imprinted if name.startswith("imprint") else network.gradient
            found, off = attack(network, tells(network.features(photos), labels), labels, tells, args.steps)
            seen["found"].append(likeness(photos, found))
            seen["mean"].append(likeness(photos, network.means[labels]))
            seen["off"].append(off)
            if not draw:
                panels += [(f"{name}: photos", photos), ("found", found)]
        told = {what: f"{statistics.mean(each):.3f}" for what, each in seen.items()}
        print(f"{name:29} correlation {told['found']}, of the class's mean {told['mean']}; off by {told['off']}", flush=True)
    if args.output:
        args.output.write_text(drawn(panels))


if __name__ == "__main__":
    main()
