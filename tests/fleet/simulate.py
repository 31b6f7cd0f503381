#!/usr/bin/env python3
"""A fleet without Flower and its processes: the same device and the same mean, one after the other, on splits of real photos.

    simulate.py digits --split writers --devices 3 --photos 40 --seeds 5
    simulate.py folder --bundle B --data PHOTOS --split dirichlet --alpha 0.5 --devices 10 --photos 50

Compares, on photos that nobody has trained on: `local`, each device alone, a default lesson; `fleet`, rounds of it; `personal`, a further
lesson of each device from the fleet's arrays on its own photos; `all`, one default lesson on all photos in one place. With `--long`, what one
place can do that has the fleet's time and rate, too: `all-fast` has `--times` the rate, `all-long` as many epochs as all rounds together,
`all-long-fast` both. Prints a line for each seed, and means with their standard deviation: on photos by others and, where the split has
writers or domains, on photos of each device's own.
"""

import argparse
import json
import shutil
import statistics
import tempfile
from pathlib import Path

import numpy as np
import srlora
from srlora.flower import average, privacy, wire
from srlora.flower.device import TIMES, Device, rate

OTHERS = ("local", "personal", "all", "all-fast", "all-long", "all-long-fast")
ROOT = Path(__file__).resolve().parents[2]


def digits(place):
    """scikit-learn's digits as the demo has them: (path, class, position), in the order of the dataset."""
    from PIL import Image
    from sklearn.datasets import load_digits

    data, found = load_digits(), []
    for index, (pixels, label) in enumerate(zip(data.images, data.target)):
        path = place / "all" / str(label) / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        ink = Image.fromarray((255 - pixels * 255 / 16).astype(np.uint8))
        ink.resize((32, 32), Image.BICUBIC).save(path)
        found.append((path, str(label), index / len(data.target)))
    return found


def folder(root):
    """(path, class, nothing) of a folder with a folder for each class; or with one for each domain, and in it one for each class."""
    domains = sorted({path.relative_to(root).parts[0] for path in root.glob("*/*/*")})
    deep = {path for path in root.glob("*/*/*") if path.is_file()}
    if deep:
        return [(path, path.parent.name, domains.index(path.relative_to(root).parts[0])) for path in sorted(deep)]
    return [(path, path.parent.name, 0) for path in sorted(root.glob("*/*")) if path.is_file()]


def deal(photos, args, random):
    """The photos of each device, and those that accuracy is measured on: by others, and of each device's own kind where there is one."""
    classes = sorted({label for _, label, _ in photos})
    shuffled = [photos[i] for i in random.permutation(len(photos))]
    if args.split == "writers":
        # Thirteen people wrote them, one after the other.
        part = lambda photo: int(photo[2] * 13)
        writers = random.permutation(13)[: args.devices]
        devices = [[photo for photo in shuffled if part(photo) == writer][: args.photos] for writer in writers]
        tests = [photo for photo in shuffled if part(photo) not in writers]
        return devices, tests[: args.tests], [[photo for photo in shuffled if part(photo) == writer][args.photos :] for writer in writers]
    if args.split == "domains":
        domains = sorted({photo[2] for photo in photos})
        devices = [[] for _ in range(args.devices)]
        for nth in range(args.devices):
            own = [photo for photo in shuffled if photo[2] == domains[nth % len(domains)]]
            devices[nth] = own[nth // len(domains) * args.photos :][: args.photos]
        taken = {photo[0] for own in devices for photo in own}
        tests = [photo for photo in shuffled if photo[0] not in taken][: args.tests]
        return devices, tests, [[photo for photo in tests if photo[2] == own[0][2]] for own in devices]
    tests, rest = shuffled[: args.tests], shuffled[args.tests :]
    pools = {label: [photo for photo in rest if photo[1] == label] for label in classes}
    devices = []
    for _ in range(args.devices):
        shares = random.dirichlet([args.alpha] * len(classes)) if args.split == "dirichlet" else [1 / len(classes)] * len(classes)
        counts = random.multinomial(args.photos, shares) if args.split == "dirichlet" else [args.photos // len(classes)] * len(classes)
        devices.append([pools[label].pop() for label, count in zip(classes, counts) for _ in range(min(count, len(pools[label])))])
    return devices, tests, [[] for _ in devices]


class Trial:
    """One seed: its devices, and what is measured."""

    def __init__(self, args, photos, place, seed):
        self.args, self.place, self.seed = args, place, seed
        own, self.tests, self.own_tests = deal(photos, args, np.random.default_rng(seed))
        self.devices = []
        for nth, each in enumerate(own):
            for path, label, _ in each:
                target = place / str(nth) / "photos" / label
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target / f"{path.parent.parent.name}-{path.name}")
            self.devices.append(Device(args.bundle, place / str(nth) / "photos", place / str(nth) / "store", args.held_back))
        self.numbers = list(range(len(own)))
        """Of each device, its node's number. Sums are in their order."""
        self.lessons = 1000 * seed
        """A lesson's seed is this and the number of its round."""
        self.away = np.random.default_rng(seed).random((args.rounds, len(own))) < args.away
        """In each round, which devices miss it. One is always there."""
        self.away[self.away.all(axis=1), 0] = False
        self.means = []
        """The fleet before its first round, and after each."""

    def accuracy(self, store, photos=None):
        """Of a store: a class that it does not know is missed."""
        known, photos = set(srlora.Store(store).classes_), self.tests if photos is None else photos
        tests = [(path, label) for path, label, _ in photos if label in known]
        if not tests:
            return 0.0
        paths, labels = zip(*tests)
        evaluation = srlora.evaluate(self.args.bundle, paths, store, labels=labels, progress=False)
        return evaluation["accuracy"] * len(tests) / len(photos)

    def on_own(self, stores):
        """The mean over devices of the accuracy on photos of their own kind, each with its store; nothing where there are none."""
        each = [self.accuracy(store, own) for store, own in zip(stores, self.own_tests) if own]
        return statistics.mean(each) if each else None

    def lesson(self, name, photos, **settings):
        store = self.place / f"{name}.store"
        shutil.rmtree(store, ignore_errors=True)
        paths, labels = zip(*photos)
        srlora.train(self.args.bundle, paths, store, labels=labels, progress=False, seed=self.seed, cache="ram", **settings)
        return store

    def local(self):
        stores = [self.lesson(f"local-{nth}", device.trained_on) for nth, device in enumerate(self.devices)]
        return statistics.mean(self.accuracy(store) for store in stores), self.on_own(stores)

    def all(self, fast=False, long=False):
        photos = [photo for device in self.devices for photo in device.trained_on]
        settings = {"lr": rate("one-sided", len(photos), self.args.times)} if fast else {}
        settings |= {"epochs": self.args.epochs * self.args.rounds} if long else {}
        store = self.lesson("all", photos, **settings)
        return self.accuracy(store), self.on_own([store] * len(self.devices))

    def compared(self, fleet):
        """What the fleet is compared with."""
        yield "local", self.local()
        yield "personal", self.personal(fleet)
        yield "all", self.all()
        if self.args.long:
            yield "all-fast", self.all(fast=True)
            yield "all-long", self.all(long=True)
            yield "all-long-fast", self.all(fast=True, long=True)

    def personal(self, fleet):
        """Each device takes a lesson of its own from the fleet's arrays, as `srlora train --from` does."""
        stores = []
        for nth, device in enumerate(self.devices):
            store = self.adopted(fleet, f"personal-{nth}")
            paths, labels = zip(*device.trained_on)
            try:
                srlora.train(self.args.bundle, paths, store, labels=labels, further=True, progress=False, seed=self.seed, cache="ram")
            except srlora.DataError:
                pass  # it has no photos of a class of the fleet's, so a lesson would unlearn it: the fleet's arrays stay
            stores.append(store)
        return statistics.mean(self.accuracy(store) for store in stores), self.on_own(stores)

    def adopted(self, fleet, name="fleet"):
        store = self.place / f"{name}.store"
        shutil.rmtree(store, ignore_errors=True)
        srlora.adopt(self.args.bundle, {"bundle_sha256": fleet.bundle_sha256, "classes": fleet.classes, "arrays": fleet.arrays}, store)
        return store

    def measured(self, fleet):
        return self.accuracy(self.adopted(fleet))

    def imprinted(self, nth):
        """What a device imprints, as it arrives."""
        update = self.devices[nth].imprint(self.args.pairs)._replace(node=self.numbers[nth])
        return update._replace(arrays=wire.fleet_as_sent(update.arrays, self.args.precision))

    def fleet(self):
        """Accuracy after each round, the first one that of imprinting; how far updates went; devices that kept the last mean aside."""
        args, random = self.args, np.random.default_rng(self.seed)
        lr = rate(args.pairs, sum(average.weights([len(device.trained_on) for device in self.devices])), args.times)
        classes = average.agree({nth: device.classes() for nth, device in enumerate(self.devices)})
        updates = [self.imprinted(nth) for nth in range(len(self.devices))]
        fleet, refused = average.begin(classes, updates)
        assert not refused, refused
        z = privacy.multiplier(args.epsilon, args.rounds + 1, args.delta) if args.epsilon else 0.0
        z *= len(self.devices) / (args.noise_of or len(self.devices))
        if z:
            fleet = privacy.noised_start(fleet, updates, z, random)
        fleet = fleet._replace(arrays=wire.fleet_as_sent(fleet.arrays, args.precision))
        curve, lengths, aside, size, moved = [self.measured(fleet)], [], 0, 0, {}
        self.means = [fleet]
        for number in range(1, args.rounds + 1):
            updates = []
            for nth in np.flatnonzero(~self.away[number - 1]):
                settings = {"pairs": args.pairs, "epochs": args.epochs, "seed": self.lessons + number, "lr": lr, **args.lesson}
                update = self.devices[nth].learn(fleet, settings, args.clip or None)._replace(node=self.numbers[nth])
                start = average.rows_of(fleet, update.classes)
                size = max(size, wire.size(update.arrays, args.precision))
                update = update._replace(arrays=wire.update_as_sent(update.arrays, start, args.precision))
                average.check(update, fleet, args.clip or float("inf"))
                lengths.append(average.distance(update.arrays, start))
                updates.append(update)
            before = fleet
            if z:
                fleet = privacy.noised_mean(fleet, updates, (args.clip, z), random)
            else:
                fleet = average.mean(fleet, updates, not args.naive)
            if args.pairs == "one-sided":
                fleet = average.carried_on(fleet, moved, args.momentum)
            fleet = fleet._replace(arrays=wire.fleet_as_sent(fleet.arrays, args.precision))
            moved = average.move(before, fleet)
            self.means.append(fleet)
            curve.append(self.measured(fleet))
            aside = sum(device.take(fleet).kept_aside for device in self.devices)
        down = sum(array.size for array in fleet.arrays.values()) * (4 if args.precision == "fp32" else 2)
        own = self.on_own([self.adopted(fleet)] * len(self.devices))
        return fleet, {"curve": curve, "longest": max(lengths), "aside": aside, "bytes-up": size, "bytes-down": down, "z": z, "own": own}


def parsed(about=__doc__):
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("task", choices=["digits", "folder"])
    parser.add_argument("--bundle", type=Path, default=ROOT / "models/handwriting/handwriting.bundle")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--split", choices=["writers", "domains", "dirichlet", "even"], default="even")
    parser.add_argument("--alpha", type=float, default=0.5)
    parser.add_argument("--devices", type=int, default=3)
    parser.add_argument("--photos", type=int, default=40, help="of each device, those held back included")
    parser.add_argument("--tests", type=int, default=400)
    parser.add_argument("--held-back", type=float, default=0.2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--pairs", choices=["one-sided", "both"], default="one-sided")
    parser.add_argument("--naive", action="store_true", help="with --pairs both: what the mean leaves out is let go")
    parser.add_argument("--precision", choices=wire.PRECISIONS, default="int8", help="what arrays are sent in")
    parser.add_argument("--times", type=float, default=TIMES, help="how many times the rate of a lesson on all photos in one place")
    parser.add_argument("--momentum", type=float, default=average.MOMENTUM)
    parser.add_argument("--clip", type=float, default=privacy.CLIP)
    parser.add_argument("--epsilon", type=float, default=0.0)
    parser.add_argument("--delta", type=float, default=1e-5)
    parser.add_argument("--noise-of", type=int, help="noise that a mean of so many devices would have, in place of these")
    parser.add_argument("--away", type=float, default=0.0, help="how likely a device misses a round")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--lesson", type=json.loads, default={}, help="other settings of a round's lesson, as JSON")
    parser.add_argument("--only-fleet", action="store_true")
    parser.add_argument("--long", action="store_true", help="one place with the fleet's rate and time, too")
    parser.add_argument("--json", type=Path, help="a file for all figures, which plot.py draws")
    return parser.parse_args()


def summary(lines):
    """Means and deviations over the seeds, on photos by others and on photos of each device's own kind."""
    of = {"fleet": [(line["fleet"]["curve"][-1], line["fleet"]["own"]) for line in lines]}
    of |= {name: [(line[name]["others"], line[name]["own"]) for line in lines] for name in OTHERS if name in lines[0]}
    for name, each in of.items():
        parts = [(what, values) for what, values in zip(("others", "own kind"), zip(*each)) if None not in values]
        told = [f"{what} {100 * statistics.mean(v):5.1f} +- {100 * (statistics.stdev(v) if len(v) > 1 else 0.0):.1f}" for what, v in parts]
        print(f"{name:13} {', '.join(told)}")


def main():
    args = parsed()
    place = Path(tempfile.mkdtemp(prefix="fleet-"))
    photos = digits(place) if args.task == "digits" else folder(args.data)
    lines = []
    try:
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            trial = Trial(args, photos, place / f"seed-{seed}", seed)
            fleet, told = trial.fleet()
            line = {"seed": seed, "fleet": told}
            if not args.only_fleet:
                line |= {name: {"others": each[0], "own": each[1]} for name, each in trial.compared(fleet)}
            lines.append(line)
            curve = " ".join(f"{100 * accuracy:.1f}" for accuracy in line["fleet"]["curve"])
            rest = " ".join(f"{name} {100 * line[name]['others']:.1f}" for name in OTHERS if name in line)
            print(f"seed {seed}: fleet by rounds {curve}; {rest}; longest update {line['fleet']['longest']:.3f}; "
                  f"kept aside by {line['fleet']['aside']} of {args.devices}", flush=True)  # fmt: skip
            shutil.rmtree(place / f"seed-{seed}")
    finally:
        shutil.rmtree(place, ignore_errors=True)
    summary(lines)
    first = lines[0]["fleet"]
    print(f"bytes a round and device: {first['bytes-up']} up, {first['bytes-down']} down" + (f"; z {first['z']:.3f}" if first["z"] else ""))
    if args.json:
        told = {"arguments": vars(args) | {"bundle": args.bundle.name, "data": args.data and args.data.name, "json": None}, "seeds": lines}
        args.json.write_text(json.dumps(told))


if __name__ == "__main__":
    main()
