#!/usr/bin/env python3
"""One fleet twice: by Flower's own simulation, with the apps that servers and devices run, and by simulate.py.

    on_ray.py digits --split dirichlet --devices 24 --photos 40 --away 0.2 --seeds 1

Devices come and go: each misses a round with the chance `--away`. All arrays of both have to have the same bits after each round, or this
ends with 1. Prints accuracy, and the time and memory of each. Needs `flwr[simulation]==1.42.0`, scikit-learn and pillow. Takes
simulate.py's options but `--times`, `--lesson`, noise and comparisons, which the apps do not have, or which are drawn at random.
"""

import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from place import ROOT, Fleet
from simulate import Trial, digits, folder, parsed

APP = ROOT / "tests" / "fleet" / "come_and_go"


def resident(leader):
    """MiB of a process and all that it has started, by program; pages that are shared are counted once."""
    parents, found = {}, {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parents[place.name] = (place / "stat").read_text().rsplit(")", 1)[1].split()[1]
        except OSError:
            continue  # it has ended
    for process in parents:
        above = process
        while above in parents and above != str(leader):
            above = parents[above]
        if above == str(leader):
            try:
                name = Path(f"/proc/{process}/comm").read_text().strip()
                lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
                found[name] = found.get(name, 0.0) + next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
            except (OSError, StopIteration):
                continue
    return found


class Watch(threading.Thread):
    """Looks at memory twice a second until it is told to stop; keeps what was the most."""

    def __init__(self, leader):
        super().__init__(daemon=True)
        self.leader, self.most, self.stopped = leader, {}, threading.Event()

    def run(self):
        while not self.stopped.wait(0.5):
            now = resident(self.leader)
            if sum(now.values()) > sum(self.most.values()):
                self.most = now


def by_flower(trial, args, place):
    """Runs the apps on the trial's devices. Gives each device its node's number; answers the seconds that it took, and memory."""
    for nth in range(args.devices):
        missed = [str(number) for number in range(1, args.rounds + 1) if trial.away[number - 1, nth]]
        (trial.place / str(nth) / "misses").write_text(" ".join(missed))
    settings = {"rounds": args.rounds, "epochs": args.epochs, "pairs": args.pairs, "residual": not args.naive, "clip": args.clip,
                "precision": args.precision, "momentum": args.momentum, "min_nodes": args.devices}  # fmt: skip
    with Fleet(place, 0, simulation=True) as fleet:
        watch = Watch(fleet.processes["superlink"].pid)
        watch.start()
        began = time.monotonic()
        run = fleet.submit(APP, args.devices, **settings, keep=str(place / "keep"), devices=str(trial.place), bundle=str(args.bundle))
        state = fleet.wait(run, 24 * 3600)
        took = time.monotonic() - began
        watch.stopped.set()
        assert state == "finished:completed", fleet.flwr("log", run, "lo", "--show")
    trial.numbers = [int((trial.place / str(nth) / "node").read_text()) for nth in range(args.devices)]
    return took, watch.most


def compared(trial, place, curve):
    """Prints each round; answers whether all arrays have the same bits."""
    same = True
    for number, mean in enumerate(trial.means):
        kept = place / "keep" / (f"round-{number:03}" if number else "round-001")
        with np.load(kept / ("mean.npz" if number else "before.npz")) as file:
            arrays, classes = {key: file[key] for key in file.files if key != "classes"}, [str(name) for name in file["classes"]]
        equal = classes == mean.classes and arrays.keys() == mean.arrays.keys()
        equal = equal and all(arrays[key].tobytes() == mean.arrays[key].tobytes() for key in arrays)
        here = len(list(kept.glob("*.npz"))) - 2 if number else len(trial.devices)
        numbers = sum(array.size for array in mean.arrays.values())
        print(f"round {number}: {here} of {len(trial.devices)} devices, accuracy {100 * curve[number]:.1f}; {numbers} numbers, "
              f"{'the same bits' if equal else 'OTHER BITS'}", flush=True)  # fmt: skip
        same = same and equal
    return same


def main():
    args = parsed(__doc__)
    args.bundle = args.bundle.resolve()
    top = Path(tempfile.mkdtemp(prefix="fleet-"))
    same = True
    try:
        photos = digits(top) if args.task == "digits" else folder(args.data)
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            trial = Trial(args, photos, top / f"seed-{seed}", seed)
            trial.lessons = 0  # the apps' lessons have the number of their round as their seed
            place = top / f"flower-{seed}"
            took, most = by_flower(trial, args, place)
            began = time.monotonic()
            _, told = trial.fleet()
            alone = time.monotonic() - began
            same = compared(trial, place, told["curve"]) and same
            each = ", ".join(f"{name} {size:.0f}" for name, size in sorted(most.items(), key=lambda item: -item[1]))
            print(f"seed {seed}: Flower {took:.0f} s, simulate.py {alone:.0f} s with accuracy")
            print(f"MiB at most {sum(most.values()):.0f}: {each}", flush=True)
    finally:
        shutil.rmtree(top, ignore_errors=True)
    sys.exit(not same)


if __name__ == "__main__":
    main()
