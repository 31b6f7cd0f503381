"""The examples of docs/python.md and of the package's docstring say what they say, and the tutorial runs."""

import contextlib
import doctest
import os
import pathlib
import re
import subprocess
import sys
import warnings

from place import BUNDLE, HANDWRITING, ROOT, TRAIN, VAL, InFolder

PAGE = ROOT / "docs" / "python.md"


@contextlib.contextmanager
def inside(folder):
    before = pathlib.Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


class Docs(InFolder):
    def test_the_examples_of_the_page_run(self):
        for name, place in {
            "my.bundle": BUNDLE,
            "model.onnx": HANDWRITING / "backbone.onnx",
            "photos": TRAIN,
            "seven.png": VAL / "7" / "0061.png",
        }.items():
            (self.folder / name).symlink_to(place)
        # What ends a block of code ends an example as well.
        text = re.sub(r"^```.*$", "", PAGE.read_text(), flags=re.MULTILINE)
        page = doctest.DocTestParser().get_doctest(text, {}, "python.md", str(PAGE), 0)
        self.assertGreater(len(page.examples), 30)
        runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
        with inside(self.folder), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            runner.run(page)
        self.assertEqual(runner.summarize().failed, 0)
        self.says(f"{len(page.examples)} examples of docs/python.md")

    def test_the_tutorial_runs(self):
        script = ROOT / "examples" / "python" / "personalize.py"
        done = subprocess.run([sys.executable, "-W", "error", script], cwd=ROOT, capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        imprinted, trained = map(float, re.search(r"accuracy ([\d.]+)% imprinted, ([\d.]+)% trained", done.stdout).groups())
        self.assertGreater(trained, imprinted + 10)
        self.assertIn("after a further lesson: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, cross, ring\n", done.stdout)
        self.assertTrue(done.stdout.endswith("after rollback: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9\n"), done.stdout)
