"""What the tests need: the program, real models and photos, folders to work in, and a reader of PNG files that is not srlora's."""

import json
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile
import unittest
import zlib

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[3]
HANDWRITING = ROOT / "models" / "handwriting"
BUNDLE = HANDWRITING / "handwriting.bundle"
TRAIN = HANDWRITING / "train"
VAL = HANDWRITING / "val"
PROGRAM = os.environ.get("SRLORA_PROGRAM")
ASSETS = pathlib.Path(os.environ["SRLORA_ASSETS"]) if os.environ.get("SRLORA_ASSETS") else None

needs_program = unittest.skipUnless(PROGRAM, "SRLORA_PROGRAM does not name the program")
needs_assets = unittest.skipUnless(ASSETS, "SRLORA_ASSETS does not name the folder of models and photos")


def program(*arguments):
    """What the program answers with --json."""
    done = subprocess.run([PROGRAM, *map(str, arguments), "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def refusal(*arguments):
    """The sentence that the program refuses with."""
    done = subprocess.run([PROGRAM, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    assert done.returncode != 0, done.stdout.decode()
    return done.stderr.decode().strip().splitlines()[-1].removeprefix("error: ")


def files(store):
    """What a store holds, file by file, but for its journal and its lock."""
    kept = pathlib.Path(store).glob("*.safetensors")
    return {path.name: path.read_bytes() for path in sorted(kept)}


def read_png(path):
    """The pixels of an 8-bit grey or RGB PNG, by the format's specification and zlib alone: height x width, or height x width x 3."""
    data = pathlib.Path(path).read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, packed, head = 8, b"", b""
    while at < len(data):
        (length,), kind = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + length]
        head, packed = (body if kind == b"IHDR" else head), packed + (body if kind == b"IDAT" else b"")
        at += 12 + length
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", head)
    assert depth == 8 and colour in (0, 2) and not interlaced, (depth, colour)
    channels = 3 if colour == 2 else 1
    raw, stride = zlib.decompress(packed), width * channels
    rows = np.zeros((height, stride), np.uint8)
    for y in range(height):
        kind, line = raw[y * (stride + 1)], raw[y * (stride + 1) + 1 : (y + 1) * (stride + 1)]
        for x in range(stride):
            left = int(rows[y, x - channels]) if x >= channels else 0
            up = int(rows[y - 1, x]) if y else 0
            corner = int(rows[y - 1, x - channels]) if y and x >= channels else 0
            guess = left + up - corner
            paeth = min((left, up, corner), key=lambda value: abs(guess - value))
            predicted = [0, left, up, (left + up) // 2, paeth][kind]
            rows[y, x] = (line[x] + predicted) % 256
    return rows if channels == 1 else rows.reshape(height, width, 3)


class InFolder(unittest.TestCase):
    """A test with a folder of its own."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def says(self, text):
        """A figure, to be read in the log."""
        print(f"    {text}", flush=True)
