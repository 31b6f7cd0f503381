"""Refusals: a class for each kind, the program's sentence, and arguments by the names that Python has for them."""

import pathlib
import pickle
import re

from place import BUNDLE, ROOT, TRAIN, VAL, InFolder, needs_program, refusal

import srlora

MODEL = ROOT / "models" / "handwriting" / "backbone.onnx"


class Refusals(InFolder):
    def refused(self, kind, call, *words):
        with self.assertRaises(kind) as raised:
            call()
        for word in words:
            self.assertIn(word, str(raised.exception))
        return raised.exception

    @needs_program
    def test_sentences_are_the_program_s_with_arguments_for_flags(self):
        store, bundle, none = self.folder / "a", self.folder / "b.bundle", self.folder / "none"
        srlora.train(BUNDLE, TRAIN, store, method="imprint")
        lesson = ("train", BUNDLE, "--data")
        cases = [
            (srlora.ExistsError, lambda: srlora.train(BUNDLE, TRAIN, store), (*lesson, TRAIN, "-o", store)),
            (srlora.IoError, lambda: srlora.train(none, TRAIN, none), ("train", none, "--data", TRAIN, "-o", none)),
            (srlora.DataError, lambda: srlora.train(BUNDLE, none, none), (*lesson, none, "-o", none)),
            (srlora.DataError, lambda: srlora.train(BUNDLE, TRAIN / "0", none), (*lesson, TRAIN / "0", "-o", none)),
            (srlora.UsageError, lambda: srlora.train(BUNDLE, TRAIN, TRAIN / "x"), (*lesson, TRAIN, "-o", TRAIN / "x")),
            (srlora.BundleError, lambda: srlora.Bundle(MODEL), ("inspect", MODEL)),
            (srlora.StoreError, lambda: srlora.Store(TRAIN), ("predict", BUNDLE, "--store", TRAIN, "x.png")),
            (
                srlora.MemoryLimitError,
                lambda: srlora.train(BUNDLE, TRAIN, none, ram_limit=1 << 20),
                (*lesson, TRAIN, "-o", none, "--ram-limit", "1MiB"),
            ),
            (
                srlora.UsageError,
                lambda: srlora.train(BUNDLE, TRAIN, none, pairs="one-sided", start="principal"),
                (*lesson, TRAIN, "-o", none, "--pairs", "one-sided", "--start", "principal"),
            ),
            (srlora.SitesError, lambda: srlora.pack(MODEL, bundle, rank=0), ("pack", MODEL, "-o", bundle, "--rank", 0)),
            (srlora.SitesError, lambda: srlora.pack(MODEL, bundle, sites="x"), ("pack", MODEL, "-o", bundle, "--sites", "x")),
            (srlora.ModelError, lambda: srlora.pack(BUNDLE, bundle), ("pack", BUNDLE, "-o", bundle)),
            (
                srlora.UsageError,
                lambda: srlora.pack(MODEL, bundle, std=0),
                ("pack", MODEL, "-o", bundle, "--std", 0),
            ),
        ]
        for kind, call, arguments in cases:
            said, expected = str(self.refused(kind, call)), refusal(*arguments)
            # Figures of memory are those of the process.
            said, expected = (re.sub(r"\d+\.\d MiB, ", "", text) for text in (said, expected))
            self.assertEqual(re.sub(r"up to [\d.]+", "", in_flags(said)), re.sub(r"up to [\d.]+", "", expected))

    def test_errors_have_their_parts_and_are_the_usual_ones_too(self):
        missing = self.refused(OSError, lambda: srlora.Bundle("no/such.bundle"), "no/such.bundle: ")
        self.assertIsInstance(missing, srlora.IoError)
        self.assertEqual((missing.subject, str(missing)), ("no/such.bundle", f"no/such.bundle: {missing.message}"))
        again = pickle.loads(pickle.dumps(missing))
        self.assertEqual((type(again), str(again), again.subject), (srlora.IoError, str(missing), missing.subject))
        self.refused(ValueError, lambda: srlora.train(BUNDLE, TRAIN, "x", epochs=0), "`epochs`: is 0; one is the least")
        self.refused(FileExistsError, lambda: srlora.pack(MODEL, MODEL), "backbone.onnx: ")

    def test_arguments_are_refused_by_their_names(self):
        def train(**settings):
            return lambda: srlora.train(BUNDLE, TRAIN, self.folder / "a", **settings)

        self.refused(TypeError, train(epoch=3), "train() got an unexpected keyword argument 'epoch'; did you mean 'epochs'?")
        self.refused(TypeError, train(epochs="3"), "train() argument 'epochs': ")
        self.refused(srlora.UsageError, train(epochs=-1), "`epochs`: -1 is not possible")
        self.refused(srlora.UsageError, train(method="LoRA"), "`method`: 'LoRA' is none of 'srlora', 'pissa', 'lora', 'head', 'imprint'")
        self.refused(srlora.UsageError, train(epochs=1, steps=1), "`epochs`: stands beside `steps`; give one of them")
        self.refused(srlora.UsageError, train(interval="twice"), "`interval`: 'twice' is neither a number of steps, nor 'once'")
        self.refused(srlora.UsageError, train(checkpoint=-1), "`checkpoint`: is -1")
        self.refused(srlora.UsageError, train(val=VAL, val_split=0.1), "`val`: stands beside `val_split`")
        self.refused(srlora.UsageError, train(val_labels=["a"]), "`val_labels`: are the classes of `val`")
        self.refused(srlora.UsageError, train(val_split=1.5), "`val_split`: 1.5 is not between 0 and 1")
        self.assertFalse((self.folder / "a").exists())
        self.refused(TypeError, lambda: srlora.train(3, TRAIN, "x"), "`bundle` is a path")
        self.refused(TypeError, lambda: srlora.Classifier(BUNDLE, 3), "`store` is a path")
        self.refused(srlora.UsageError, lambda: srlora.pack(MODEL, "x", range=2), "`range`: is 2; it is 1 or 255")
        self.refused(srlora.UsageError, lambda: srlora.Bundle(BUNDLE, min_release=3), "`min_release`: is believed of signed bundles only")

    def test_photos_and_labels_belong_together(self):
        photo = VAL / "7" / "0061.png"

        def train(data, **settings):
            return lambda: srlora.train(BUNDLE, data, self.folder / "a", **settings)

        self.refused(TypeError, train([photo]), "`data` without `labels` is a folder", "of images give `labels`")
        self.refused(TypeError, train(TRAIN, labels=["7"]), "`data` has labels, so it is a sequence of images")
        self.refused(TypeError, train([photo], labels=[7]), "label 0 of `data` is <class 'int'>; a class is a str")
        self.refused(srlora.UsageError, train([photo, photo], labels=["7"]), "has more images than its 1 labels")
        self.refused(srlora.UsageError, train([photo], labels=["7", "8"]), "has 1 images and more labels")
        self.refused(srlora.DataError, train([photo], labels=["a/b"]), 'class "a/b": has a name that no folder can have')
        self.refused(srlora.DataError, train([photo], labels=["7"]), "the photos in memory: has only one class, 7")
        self.assertFalse(pathlib.Path(self.folder / "a").exists())


def in_flags(text):
    """A sentence of Python's as the program says it."""
    text = text.replace("`further=True`", "--from").replace("`resume=True`", "--resume")
    return re.sub(r"(?<!option )`([a-z_]+)`", lambda match: "--" + match[1].replace("_", "-"), text)
