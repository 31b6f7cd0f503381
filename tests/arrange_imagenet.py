#!/usr/bin/env python3
"""Arranges the photos of `imagenet_sample1000` as one folder per class, and writes the labels file that `pack` takes.

    python tests/arrange_imagenet.py "$SRLORA_ASSETS/data/imagenet_sample1000" OUT
    srlora pack MODEL.onnx --labels OUT/labels.txt --mean .5 --std .5 -o model.bundle
    srlora eval model.bundle --data OUT/eval

Class names repeat (there are two cranes), so a folder is called by index and first name: `0134 crane`.
"""
import csv
import os
import sys
from pathlib import Path


def main(source, out):
    names = (source / "classes.txt").read_text().splitlines()
    labels = [f"{index:04d} {name.split(',')[0].replace('/', ' ')}" for index, name in enumerate(names) if name]
    out.mkdir(parents=True, exist_ok=True)
    (out / "labels.txt").write_text("\n".join(labels) + "\n")
    photos = [row for row in csv.DictReader((source / "labels.csv").open()) if row["split"] == "eval"]
    for row in photos:
        folder = out / "eval" / labels[int(row["class_index"])]
        folder.mkdir(parents=True, exist_ok=True)
        link = folder / Path(row["file"]).name
        if not link.exists():
            os.symlink((source / row["file"]).resolve(), link)
    print(f"{len(labels)} labels, {len(photos)} photos")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
