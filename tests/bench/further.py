#!/usr/bin/env python3
"""Lessons that add up, against one lesson with all photos.

    python tests/bench/further.py target/release/srlora BUNDLE PHOTOS --shots 20 --draws 5 --lessons daisy,rose sunflower,tulip
           [--test OTHERS] [--replay 2MiB] [--train "--epochs 15"]
    python tests/bench/further.py ... --look OTHER_PHOTOS          the same classes again, as they look there

Each of --lessons is a lesson on N photos of some classes, after which these photos are gone; `each` makes one of every class, the first
with two. With --look there are two lessons, on the photos of PHOTOS and of OTHER_PHOTOS. Prints a line for each draw: accuracy in %
on all classes after the last lesson, on the first lesson's classes (or look) before and after, without examples (`--replay 0`), in one
lesson with all photos, and imprinted from all photos.
"""
import argparse, json, random, subprocess, tempfile
from pathlib import Path
from statistics import mean


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: {done.stderr}")
    return json.loads(done.stdout)


def link(photos, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for photo in photos:
        (folder / f"{photo.parent.parent.name}-{photo.name}").symlink_to(photo.resolve())


def draw(photos, shots, seed, test):
    """Of each class: photos to learn, and others to measure on."""
    sets = {}
    for folder in sorted(f for f in photos.iterdir() if f.is_dir()):
        own = sorted(folder.iterdir())
        random.Random(f"{seed}{folder.name}").shuffle(own)
        sets[folder.name] = (own[:shots], sorted((test / folder.name).iterdir()) if test else own[shots:])
    return sets


def lessons(args, seed):
    """For each lesson: its photos by class; and what to measure on first and last."""
    sets = draw(args.photos, args.shots, seed, args.test)
    if args.look:
        looks = [sets, draw(args.look, args.shots, seed, None)]
        learned = [{name: pair[0] for name, pair in look.items()} for look in looks]
        others = [{name: pair[1] for name, pair in look.items()} for look in looks]
        return learned, others[0], {name: others[0][name] + others[1][name] for name in sets}
    groups = [group.split(",") for group in args.lessons]
    if args.lessons == ["each"]:
        names = sorted(sets)
        random.Random(seed).shuffle(names)
        groups = [names[:2]] + [[name] for name in names[2:]]
    learned = [{name: sets[name][0] for name in group} for group in groups]
    others = {name: sets[name][1] for group in groups for name in group}
    return learned, {name: others[name] for name in groups[0]}, others


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("srlora", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--shots", type=int, default=20)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--lessons", nargs="+", default=[])
    parser.add_argument("--look", type=Path)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--replay", default="2MiB")
    parser.add_argument("--train", default="")
    args = parser.parse_args()
    args.srlora, rows = args.srlora.resolve(), []
    for seed in range(args.draws):
        with tempfile.TemporaryDirectory() as place:
            rows.append(measure(args, Path(place), *lessons(args, seed)))
        print(f"draw {seed}: " + ", ".join(f"{what} {value}" for what, value in rows[-1].items()), flush=True)
    numbers = [what for what, value in rows[0].items() if isinstance(value, float)]
    print("mean: " + ", ".join(f"{what} {mean(row[what] for row in rows):.1f}" for what in numbers))


def measure(args, place, learned, first, last):
    for number, photos in enumerate(learned):
        for name, own in photos.items():
            link(own, place / f"lesson-{number}" / name)
            link(own, place / "all" / name)
    for folder, photos in (("first", first), ("last", last)):
        for name, own in photos.items():
            link(own, place / folder / name)

    def train(store, data, *options):
        begin = ("--from", place / store) if (place / store).exists() else ("-o", place / store)
        return run(args.srlora, "train", args.bundle, "--data", place / data, *begin, "--json", *args.train.split(), *options)

    def accuracy(store, data):
        return round(100 * run(args.srlora, "eval", args.bundle, "--store", place / store, "--data", place / data, "--json")["accuracy"], 1)

    result, aside = {}, {"kept": 0, "none": 0}
    for store, replay in (("kept", args.replay), ("none", "0")):
        for number in range(len(learned)):
            report = train(store, f"lesson-{number}", "--replay", replay)
            if report["aside"] is not None:
                # What it would have come to.
                aside[store] += 1
                subprocess.run([args.srlora, "rollback", place / store, "--to", str(report["aside"])], check=True, capture_output=True)
            if number == 0:
                result["first before"] = accuracy(store, "first")
            elif store == "kept":
                result["seconds"], result["examples KiB"] = round(report["seconds"], 1), round(report["replay_bytes"] / 1024)
        result[f"first, {store}"], result[f"all, {store}"] = accuracy(store, "first"), accuracy(store, "last")
    train("joint", "all")
    train("imprinted", "all", "--method", "imprint")
    result["joint"], result["imprinted"] = accuracy("joint", "last"), accuracy("imprinted", "last")
    result["aside"] = f"{aside['kept']} and {aside['none']} without examples"
    return result


if __name__ == "__main__":
    main()
