"""A camera that is made up: plays the photos of a folder, and of the folders in it, as MJPEG on stdout."""

import argparse
import io
import sys
import time
from pathlib import Path

from PIL import Image

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder", type=Path)
parser.add_argument("--rate", type=float, default=15, help="pictures a second")
parser.add_argument("--each", type=int, default=6, help="times that each photo is shown")
parser.add_argument("--side", type=int, default=240, help="pixels of a side")


def main() -> None:
    args = parser.parse_args()
    pictures = []
    for path in sorted(args.folder.rglob("*.*g")):
        photo = Image.open(path).convert("RGB").resize((args.side, args.side))
        held = io.BytesIO()
        photo.save(held, "JPEG", quality=90)
        pictures.append(held.getvalue())
    begin = time.monotonic()
    for number in range(10**9):
        # A little different each time, as a camera's pictures are: behind its end, a JPEG may have anything.
        try:
            sys.stdout.buffer.write(pictures[number // args.each % len(pictures)])
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            return
        time.sleep(max(0.0, begin + (number + 1) / args.rate - time.monotonic()))


main()
