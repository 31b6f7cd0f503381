"""A few photos per class to learn from, the rest to measure on.

    python3 tests/arrange_shots.py PHOTOS OUT --shots 20 --seed 0 [--test OTHERS]

links N photos of every class folder of PHOTOS, drawn with the seed, into OUT/train/CLASS, and the others into
OUT/test/CLASS; with --test, all photos of OTHERS go there instead.
"""

import argparse
import random
from pathlib import Path


def link(photos, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for photo in photos:
        (folder / photo.name).symlink_to(photo.resolve())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--shots", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test", type=Path)
    args = parser.parse_args()
    for source in sorted(folder for folder in args.photos.iterdir() if folder.is_dir()):
        photos = sorted(source.iterdir())
        random.Random(f"{args.seed}{source.name}").shuffle(photos)
        link(photos[: args.shots], args.out / "train" / source.name)
        rest = sorted((args.test / source.name).iterdir()) if args.test else photos[args.shots :]
        link(rest, args.out / "test" / source.name)


if __name__ == "__main__":
    main()
