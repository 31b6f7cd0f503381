"""The mean, what is refused, clipping, and what noise promises; each against something computed otherwise. No Flower."""

import math
import unittest

import numpy as np
from place import BUNDLE, HANDWRITING
import srlora
import shutil
import tempfile
from pathlib import Path

from srlora.flower import average, privacy, wire
from srlora.flower.average import Fleet, Refused, Update
from srlora.flower.device import Device

SHAPES = {"one": (6, 4, 3), "two": (3, 5, 2)}  # out_dim, in_dim, pairs


def fleet(both=False, classes=("a", "b", "c"), features=7):
    random, arrays = np.random.default_rng(0), {}
    for site, (rows, columns, pairs) in SHAPES.items():
        arrays[f"{site}/b"] = random.normal(size=(rows, pairs)).astype(np.float32)
        if both:
            arrays[f"{site}/a"] = random.normal(size=(pairs, columns)).astype(np.float32)
    arrays["head/weight"] = random.normal(size=(len(classes), features)).astype(np.float32)
    arrays["head/bias"] = random.normal(size=len(classes)).astype(np.float32)
    return Fleet("f" * 64, list(classes), arrays)


def update(of, node, classes, photos, step=0.1):
    random = np.random.default_rng(node)
    arrays = {key: array + step * random.normal(size=array.shape).astype(np.float32) for key, array in average.rows_of(of, classes).items()}
    return Update(node, of.bundle_sha256, list(classes), list(photos), {key: array.astype(np.float32) for key, array in arrays.items()})


def imprinted(of, node, classes, photos, step=0.1):
    """An update with pairs at their start."""
    own = update(of, node, classes, photos, step)
    return own._replace(arrays={**own.arrays, **{key: array for key, array in of.arrays.items() if not key.startswith("head/")}})


class Mean(unittest.TestCase):
    def test_a_row_is_of_those_that_have_its_class_and_one_that_nobody_has_stays(self):
        before = fleet()
        first, second = update(before, 1, ["a", "b"], [3, 4]), update(before, 2, ["b"], [5])
        after = average.mean(before, [second, first])
        np.testing.assert_array_equal(after.arrays["head/weight"][2], before.arrays["head/weight"][2])
        np.testing.assert_allclose(after.arrays["head/weight"][0], first.arrays["head/weight"][0], rtol=1e-6)
        expected = (7 * first.arrays["head/weight"][1].astype(float) + 5 * second.arrays["head/weight"][0]) / 12
        np.testing.assert_allclose(after.arrays["head/weight"][1], expected, rtol=1e-6)
        expected = (7 * first.arrays["one/b"].astype(float) + 5 * second.arrays["one/b"]) / 12
        np.testing.assert_allclose(after.arrays["one/b"], expected, rtol=1e-5, atol=1e-7)

    def test_a_fleet_carries_on_with_a_share_of_its_last_move(self):
        first, second = fleet(), fleet()
        second = second._replace(arrays={key: array + np.float32(0.25) for key, array in first.arrays.items()})
        after = average.carried_on(second, average.move(first, second), 0.5)
        for key, array in after.arrays.items():
            np.testing.assert_allclose(array, first.arrays[key] + 0.375, rtol=1e-5, atol=1e-6)
        self.assertTrue(all((array == second.arrays[key]).all() for key, array in average.carried_on(second, {}, 0.5).arrays.items()))

    def test_nobody_counts_with_more_than_twice_what_the_middle_one_has(self):
        self.assertEqual(average.weights([40, 10**18, 38, 42, 41]), [40, 82, 38, 42, 41])
        self.assertEqual(average.weights([40, 10**9]), [40, 80])
        self.assertEqual(average.weights([1, 1, 9], most=0), [1, 1, 9])
        self.assertEqual(average.weights([10**9]), [10**9], "alone it is the middle, and its weight means nothing")
        before = fleet()
        updates = [update(before, node, ["a", "b"], [20, 20]) for node in range(9)]
        updates.append(update(before, 9, ["a", "b"], [10**9, 10**9], step=10.0))
        after = average.mean(before, updates)
        for key, at in (("one/b", ...), ("head/weight", 1)):
            moved = after.arrays[key][at] - before.arrays[key][at]
            share = float((moved * (updates[9].arrays[key][at] - before.arrays[key][at])).sum()) / float(np.square(updates[9].arrays[key][at] - before.arrays[key][at]).sum())
            self.assertAlmostEqual(share, 2 / 11, delta=0.03)
        begins = [imprinted(before, node, ["a", "b"], [20, 20]) for node in range(9)]
        begins.append(imprinted(before, 9, ["a", "b"], [10**9, 10**9], step=0.5))
        begun, refused = average.begin(["a", "b", "c"], begins)
        self.assertEqual(refused, [])
        row = lambda of: of.arrays["head/weight"][0] / np.linalg.norm(of.arrays["head/weight"][0])
        self.assertLess(row(begun) @ row(begins[9]), 0.98, "nor the rows that the fleet begins with")

    def test_the_order_in_which_updates_come_changes_no_bit(self):
        before = fleet(both=True)
        updates = [update(before, node, ["a", "b", "c"], [node, 2, 3]) for node in (9, 4, 7, 1)]
        one, other = average.mean(before, updates), average.mean(before, updates[::-1])
        self.assertTrue(all(one.arrays[key].tobytes() == other.arrays[key].tobytes() for key in one.arrays))
        self.assertIs(average.mean(before, []), before)

    def test_with_both_sides_trained_delta_and_pairs_come_to_the_mean_of_the_products(self):
        before = fleet(both=True)
        updates = [update(before, node, ["a"], [node]) for node in (1, 2, 3)]
        for rounds in range(2):  # what was left out earlier stays in the delta
            after = average.mean(before, updates)
            for site in SHAPES:
                own = lambda of: of[f"{site}/b"].astype(float) @ of[f"{site}/a"]
                exact = sum(each.photos[0] * own(each.arrays) for each in updates) / 6 + before.arrays.get(f"{site}/delta", 0)
                np.testing.assert_allclose(own(after.arrays) + after.arrays[f"{site}/delta"], exact, atol=2e-6)
                naive = average.mean(before, updates, residual=False).arrays
                self.assertGreater(np.abs(own(naive) - exact).max(), 1e-3, "the mean of the factors alone is not that")
            before = after

    def test_classes_are_agreed_in_byte_order(self):
        self.assertEqual(average.agree({3: {"b": 1, "ä": 2}, 1: {"a": 1, "b": 9}}), ["a", "b", "ä"])
        self.assertEqual(average.agree({}), [])


class Wire(unittest.TestCase):
    def test_codes_are_read_by_hand_and_are_at_most_half_a_step_off(self):
        before = fleet()
        start = average.rows_of(before, ["a", "c"])
        arrays = update(before, 5, ["a", "c"], [2, 2], step=0.3).arrays
        there = wire.update_as_sent(arrays, start, "int8")
        for key, array in arrays.items():
            codes = wire.coded(array, start[key])
            self.assertEqual((codes.codes.dtype, codes.codes.shape, codes.scales.dtype), (np.int8, array.shape, np.float16))
            self.assertEqual(len(codes.scales), -(-array.size // 32))
            for at, number in enumerate(array.ravel()):
                step = np.float32(codes.scales[at // 32])
                by_hand = np.float32(start[key].ravel()[at] + np.float32(step * np.float32(codes.codes.ravel()[at])))
                self.assertEqual(by_hand, there[key].ravel()[at])
                self.assertLessEqual(abs(float(number) - float(by_hand)), 0.51 * float(step) + 1e-6)
        self.assertEqual(wire.size(arrays, "int8"), sum(array.size + 2 * -(-array.size // 32) for array in arrays.values()))
        still = wire.update_as_sent(start, start, "int8")
        self.assertTrue(all(still[key].tobytes() == start[key].tobytes() for key in start), "what has not moved stays to the bit")

    def test_what_is_not_finite_or_too_far_is_not_finite_when_it_has_come(self):
        start = {"x": np.zeros(70, np.float32)}
        for value in ("nan", "inf", "-inf", "1e30"):
            array = np.where(np.arange(70) == 40, np.float32(value), np.float32(0.5))
            there = wire.update_as_sent({"x": array}, start, "int8")["x"]
            self.assertFalse(np.isfinite(there[32:64]).all())
            self.assertTrue(np.isfinite(there[:32]).all() and np.isfinite(there[64:]).all())


class Refusals(unittest.TestCase):
    def refused(self, spoil, key, longest=float("inf")):
        before = fleet()
        bad = spoil(update(before, 5, ["a", "c"], [2, 2]))
        with self.assertRaises(Refused) as told:
            average.check(bad, before, longest)
        self.assertEqual((told.exception.node, told.exception.key), (5, key), told.exception)

    def test_each_kind_names_the_node_and_the_array(self):
        average.check(update(fleet(), 5, ["a", "c"], [2, 2]), fleet(), float("inf"))

        def arrays(key, change):
            return lambda of: of._replace(arrays={**of.arrays, key: change(of.arrays[key])})

        spoiled = lambda value: lambda array: np.where(np.arange(array.size).reshape(array.shape) == 1, np.float32(value), array)
        self.refused(arrays("one/b", spoiled("nan")), "one/b")
        self.refused(arrays("head/bias", spoiled("-inf")), "head/bias")
        self.refused(arrays("two/b", lambda array: array[:-1]), "two/b")
        self.refused(arrays("two/b", lambda array: array.astype(np.float64)), "two/b")
        self.refused(lambda of: of._replace(arrays={key: of.arrays[key] for key in of.arrays if key != "one/b"}), "one/b")
        self.refused(lambda of: of._replace(arrays={**of.arrays, "one/delta": np.zeros((6, 4), np.float32)}), "one/delta")
        self.refused(lambda of: of._replace(classes=["a", "eleven"]), "classes")
        self.refused(lambda of: of._replace(classes=["a", "a"]), "classes")
        self.refused(lambda of: of._replace(photos=[2, 0]), "photos")
        self.refused(lambda of: of._replace(photos=[2]), "photos")
        self.refused(lambda of: of._replace(bundle_sha256="0" * 64), "bundle")
        self.refused(arrays("one/b", lambda array: array + np.float32(100)), "arrays", longest=10.0)

    def test_a_device_with_another_network_does_not_decide_how_the_fleet_begins(self):
        of = fleet()
        updates = [imprinted(of, node, ["a", "b"], [1, 1]) for node in (1, 2)]
        other = imprinted(of, 3, ["c"], [9])._replace(bundle_sha256="0" * 64)
        begun, refused = average.begin(["a", "b", "c"], [other, *updates])
        self.assertEqual(([error.node for error in refused], begun.bundle_sha256), ([3], of.bundle_sha256))
        self.assertTrue((begun.arrays["head/weight"][2] == 0).all())

    def test_a_device_with_other_pairs_or_long_rows_does_not_decide_how_the_fleet_begins(self):
        of = fleet()
        good = [imprinted(of, node, ["a", "b"], [1, 1]) for node in (2, 3, 4)]
        expected, _ = average.begin(["a", "b"], good)
        for key, spoil in (("one/b", lambda array: array * np.float32("nan")), ("one/b", lambda array: array + 50),
                           ("head/weight", lambda array: array * 1000), ("head/bias", lambda array: array + 1000)):  # fmt: skip
            bad = imprinted(of, 1, ["a", "b"], [1, 1])
            bad.arrays[key] = spoil(bad.arrays[key]).astype(np.float32)
            begun, refused = average.begin(["a", "b"], [bad, *good])
            self.assertEqual([error.node for error in refused], [1], key)
            self.assertTrue(all((array == expected.arrays[each]).all() for each, array in begun.arrays.items()), key)


class Privacy(unittest.TestCase):
    def test_what_is_too_long_is_shortened_and_an_update_of_nothing_stays(self):
        before = fleet()
        start, long = average.rows_of(before, ["b"]), update(before, 1, ["b"], [1], step=5.0)
        short = privacy.clip(long.arrays, start, 2.0)
        self.assertAlmostEqual(average.distance(short, start), 2.0, places=4)
        way = lambda of: np.concatenate([(of[key] - start[key]).ravel() for key in sorted(start)])
        cosine = way(short) @ way(long.arrays) / np.linalg.norm(way(short)) / np.linalg.norm(way(long.arrays))
        self.assertGreater(cosine, 1 - 1e-5)
        still = privacy.clip(start, start, 2.0)
        self.assertTrue(all((still[key] == start[key]).all() for key in start))

    def test_delta_is_what_an_integral_over_the_two_densities_says(self):
        def integral(epsilon, multiplier, rounds):
            shift, step = math.sqrt(rounds) / multiplier, 1e-4
            x = np.arange(-15, 15 + shift, step)
            density = lambda middle: np.exp(-((x - middle) ** 2) / 2) / math.sqrt(2 * math.pi)
            return np.maximum(density(shift) - math.exp(epsilon) * density(0.0), 0).sum() * step

        for case in [(1.0, 1.0, 1), (0.5, 2.0, 5), (3.0, 1.0, 6), (0.0, 4.0, 10)]:
            self.assertAlmostEqual(privacy.delta(*case), integral(*case), places=6)

    def test_epsilon_and_multiplier_are_each_other_s_inverse_and_rounds_cost(self):
        for wanted in (0.5, 2.0, 8.0):
            z = privacy.multiplier(wanted, 6, 1e-5)
            self.assertAlmostEqual(privacy.epsilon(z, 6, 1e-5), wanted, places=6)
            self.assertGreater(privacy.epsilon(z, 7, 1e-5), wanted)
        self.assertEqual(privacy.epsilon(0.0, 5, 1e-5), math.inf)
        self.assertLess(privacy.delta(1e3, 1.0, 1), 1e-300)

    def test_noise_has_the_deviation_that_is_said_and_absent_rows_count_as_unmoved(self):
        before = fleet(features=4000)
        updates = [update(before, node, ["a", "b"], [50, 1], step=0.0) for node in (1, 2, 3, 4)]
        after = privacy.noised_mean(before, updates, (2.0, 3.0), np.random.default_rng(1))
        moved = (after.arrays["head/weight"] - before.arrays["head/weight"]).ravel()
        self.assertAlmostEqual(float(moved.std()), 2.0 * 3.0 / 4, delta=0.05)
        one = [updates[0]._replace(arrays={key: array + np.float32(1) for key, array in updates[0].arrays.items()}), *updates[1:]]
        after = privacy.noised_mean(before, one, (1e-9, 1.0), np.random.default_rng(1))
        np.testing.assert_allclose(after.arrays["head/weight"] - before.arrays["head/weight"], np.array([[0.25], [0.25], [0]]) + 0 * before.arrays["head/weight"], atol=1e-6)


class OnDevice(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        for source in (HANDWRITING / "train").glob("[0-4]/*.png"):
            place = self.folder / "photos" / source.parent.name
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, place)

    def test_a_photo_that_is_held_back_stays_so_and_none_is_trained_on_too(self):
        first = Device(BUNDLE, self.folder / "photos", self.folder / "store")
        (self.folder / "photos" / "9").mkdir()
        for source in (HANDWRITING / "train" / "9").glob("*.png"):
            shutil.copy(source, self.folder / "photos" / "9")
        second = Device(BUNDLE, self.folder / "photos", self.folder / "store")
        self.assertLess(set(first.held_back), set(second.held_back))
        self.assertFalse(set(second.held_back) & set(second.trained_on))
        self.assertEqual(len(second.held_back) + len(second.trained_on), 72)

    def test_a_lesson_starts_from_the_fleet_knows_only_its_classes_and_leaves_the_store_alone(self):
        device = Device(BUNDLE, self.folder / "photos", self.folder / "store")
        begun, refused = average.begin(["0", "1", "2", "3", "4", "elsewhere"], [device.imprint("one-sided")])
        self.assertEqual(refused, [])
        still = device.learn(begun, {"pairs": "one-sided", "epochs": 1, "lr": 0.0, "head_lr": 0.0, "decay": 0.0, "head_decay": 0.0})
        self.assertEqual(average.distance(still.arrays, average.rows_of(begun, still.classes)), 0.0)
        update = device.learn(begun, {"pairs": "one-sided", "epochs": 2}, longest=0.05)
        self.assertEqual((update.classes, update.examples), (["0", "1", "2", "3", "4"], len(device.trained_on)))
        self.assertAlmostEqual(average.distance(update.arrays, average.rows_of(begun, update.classes)), 0.05, places=4)
        self.assertFalse(device.store.exists() or device.scratch.exists())
        self.assertEqual(device.take(begun).generation, 1)
        self.assertEqual(srlora.Store(device.store).classes_, begun.classes)
        device.scratch.mkdir()
        (device.scratch / "precious.txt").write_text("mine")
        with self.assertRaisesRegex(srlora.DataError, "no lesson's folder"):
            device.imprint("one-sided")
        self.assertTrue((device.scratch / "precious.txt").exists())

    def test_what_is_worse_is_kept_aside_and_told(self):
        device = Device(BUNDLE, self.folder / "photos", self.folder / "store", held_back=0.5)
        begun, _ = average.begin(["0", "1", "2", "3", "4"], [device.imprint("one-sided")])
        device.take(begun)
        worse = begun._replace(arrays={**begun.arrays, "head/weight": -begun.arrays["head/weight"]})
        taken = device.take(worse)
        self.assertEqual((taken.generation, taken.kept_aside, taken.tried_on), (1, True, len(device.held_back)))
        self.assertLess(taken.after, taken.before)

    def test_a_mean_that_knows_more_classes_than_the_store_is_no_worse_for_it(self):
        device = Device(BUNDLE, self.folder / "photos", self.folder / "store", held_back=0.5)
        own = device.imprint("one-sided")
        begun, _ = average.begin(["0", "1", "2", "3", "4"], [own])
        device.take(begun)

        def with_new(bias):
            new = {"head/weight": np.zeros((1, begun.arrays["head/weight"].shape[1]), np.float32), "head/bias": np.float32([bias])}
            rows = {key: np.concatenate([begun.arrays[key], row]) for key, row in new.items()}
            return begun._replace(classes=[*begun.classes, "5"], arrays={**begun.arrays, **rows})

        swallows = device.take(with_new(1e3))
        self.assertEqual((swallows.kept_aside, swallows.before), (True, swallows.after), "it would take every photo")
        self.assertGreater(swallows.before, 0.5)
        harmless = device.take(with_new(-1e3))
        self.assertEqual((harmless.kept_aside, harmless.before), (False, harmless.after))

    def test_no_flower_is_imported_by_srlora(self):
        import subprocess
        import sys

        code = "import sys, srlora, srlora.flower, srlora.flower.device; sys.exit(any(name.split('.')[0] == 'flwr' for name in sys.modules))"
        self.assertEqual(subprocess.run([sys.executable, "-c", code], check=False).returncode, 0)


if __name__ == "__main__":
    unittest.main()
