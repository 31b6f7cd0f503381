"""A real SuperLink and three SuperNodes on loopback: five rounds, with a device that claims too much, updates that are refused, a killed
node, and classes that differ."""

import struct
import unittest
import unittest.mock

import numpy as np
import srlora
import runs
from place import BUNDLE, HANDWRITING
from runs import LACKS
from srlora.flower import clock


def rounded(value):
    """To f32. A product or a sum of two of them is first rounded to f64, which changes nothing: f64 has more than twice the bits."""
    return struct.unpack("f", struct.pack("f", value))[0]


def mean_by_hand(values, weights, moved):
    """(w_1 x_1 + w_2 x_2 + ...) / (w_1 + w_2 + ...), and half of what the fleet has moved by before: one number at a time, each step
    rounded to f32, and at last to f16, as it is sent. No numpy in it."""
    total = 0.0
    for value, weight in zip(values, weights):
        total = rounded(total + rounded(rounded(weight) * value))
    return carried_on(rounded(total / rounded(sum(weights))), moved)


def carried_on(mean, moved):
    return struct.unpack("e", struct.pack("e", rounded(mean + rounded(0.5 * moved))))[0]


class LoopbackFleet(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        run = runs.result("learns")
        cls.folder, cls.state, cls.told, cls.clock, cls.killed = run.folder, run.state, run.told, run.clock, run.killed
        cls.late = run.late

    def rounds(self):
        for number in range(1, 6):
            folder = self.folder / "keep" / f"round-{number:03}"
            files = {path.stem: dict(np.load(path)) for path in folder.glob("*.npz")}
            mean, before = files.pop("mean"), files.pop("before")
            yield number, {int(node): update for node, update in sorted(files.items(), key=lambda item: int(item[0]))}, before, mean

    def test_five_rounds_have_run_and_each_has_the_devices_that_it_could_have(self):
        self.assertEqual(self.state, "finished:completed")
        self.assertEqual([len(updates) for _, updates, _, _ in self.rounds()], [3, 1, 2, 1, 3])

    def test_the_mean_is_the_one_computed_by_hand_to_the_last_bit(self):
        numbers, earlier = 0, None
        for _, updates, before, mean in self.rounds():
            classes = [str(name) for name in before["classes"]]
            self.assertEqual(classes, [str(digit) for digit in range(10)])
            photos = {id(update): int(update["photos"].sum()) for update in updates.values()}
            middle = sorted(photos.values())[(len(photos) - 1) // 2]
            counts = {update: min(claimed, 2 * middle) for update, claimed in photos.items()}
            for key in before.keys() - {"classes"}:
                by_hand = before[key].astype(np.float32).copy()
                for at in np.ndindex(by_hand.shape):
                    taking, values = updates.values(), None
                    if key.startswith("head/"):
                        own = [(update, [str(name) for name in update["classes"]]) for update in updates.values()]
                        own = [(update, names.index(classes[at[0]])) for update, names in own if classes[at[0]] in names]
                        taking = [update for update, _ in own]
                        values = [float(update[key][(row, *at[1:])]) for update, row in own]
                    values = [float(update[key][at]) for update in taking] if values is None else values
                    weights = [counts[id(update)] for update in taking]
                    moved = rounded(float(before[key][at]) - float(earlier[key][at])) if earlier else 0.0
                    by_hand[at] = mean_by_hand(values, weights, moved) if values else carried_on(float(by_hand[at]), moved)
                    numbers += 1
                self.assertEqual(by_hand.tobytes(), mean[key].tobytes(), key)
            earlier = before
        self.assertGreater(numbers, 25_000)
        print(f"    {numbers} numbers of five means, each the same bits by hand")

    def test_a_round_begins_from_the_mean_of_the_one_before(self):
        means = {number: mean for number, _, _, mean in self.rounds()}
        for number, _, before, _ in self.rounds():
            for key in before if number > 1 else ():
                self.assertEqual(before[key].tobytes(), means[number - 1][key].tobytes(), key)
        final = np.load(self.folder / "fleet.npz")
        self.assertTrue(all(final[key].tobytes() == means[5][key].tobytes() for key in means[5]))

    def test_a_device_sends_the_rows_of_its_own_classes_alone(self):
        lacking = {tuple(str(name) for name in update["classes"]) for _, updates, _, _ in self.rounds() for update in updates.values()}
        expected = {tuple(str(digit) for digit in range(10) if str(digit) not in LACKS.get(device, ())) for device in range(3)}
        self.assertEqual(lacking, expected)
        for _, updates, _, _ in self.rounds():
            for update in updates.values():
                self.assertEqual(len(update["head/weight"]), len(update["classes"]))

    def test_what_cannot_be_meant_is_refused_by_name_and_the_round_goes_on(self):
        node = r"the update of node \d+ is refused: "
        for told in (rf"round 2: {node}/\S+/b holds values that are not finite",
                     rf"round 2: {node}/\S+/b is int8 \[\d+, \d+\], and has to be int8 \[\d+, \d+\]",
                     rf"round 4: {node}classes are not those agreed on: eleven; start the run anew",
                     rf"round 4: {node}arrays are \S+ away from the fleet's, and 5 is allowed"):  # fmt: skip
            self.assertRegex(self.told, told)

    def test_a_device_that_claims_a_billion_photos_does_not_own_the_mean(self):
        _, updates, _, _ = next(self.rounds())
        claimed = sorted(int(update["photos"].sum()) for update in updates.values())
        self.assertGreater(claimed[2], 1_000_000_000)
        middle = claimed[1]
        self.assertRegex(self.told, rf"round 1: node \d+ claims {claimed[2]} photos; it counts with {2 * middle}, 2 times the device in the middle")

    def test_a_killed_node_is_named_comes_back_and_its_store_is_whole(self):
        before, after = self.killed
        self.assertTrue(before)
        self.assertEqual(before, after, "nothing of the store changes while a round is learned")
        store = srlora.Store(self.folder / "device-1" / "store")
        self.assertGreaterEqual(store.current, max(int(name[11:17]) for name in before if name.startswith("generation")))
        self.assertIsNone(store.record.get("forgot"))
        rounds = {number: set(updates) for number, updates, _, _ in self.rounds()}
        self.assertEqual(len(rounds[5] - rounds[1]), 1, "it is another node to the server, as nodes have no names here")

    def test_each_store_holds_a_fleet_s_generation_that_was_no_worse(self):
        for device in range(3):
            folder = self.folder / f"device-{device}" / "store"
            record = srlora.Store(folder).record
            self.assertEqual((record["imported"]["format"], record["classes"]), ("fleet", [str(digit) for digit in range(10)]))
            if record["trial"]:
                self.assertGreaterEqual(record["trial"]["after"], record["trial"]["before"])
            accuracy = srlora.evaluate(BUNDLE, HANDWRITING / "val", folder, progress=False)["accuracy"]
            print(f"    device {device}: {100 * accuracy:.1f} % of 400 photos that no device has")
            self.assertGreater(accuracy, 0.3)

    def test_a_node_whose_clock_is_wrong_is_not_let_in_and_the_run_goes_on(self):
        """It ends by itself, and Flower does not say why; `srlora.flower.clock` does."""
        node, link = self.late
        self.assertIn("SuperNode terminated", node)
        self.assertRegex(link, r"/v1/fleet/register-node HTTP\S+ 401")
        self.assertEqual(self.state, "finished:completed")

    def test_a_wrong_clock_is_told(self):
        self.assertLess(abs(self.clock), 5)
        for wrong, code in ((0, 0), (400, 1), (-60, 1)):
            with unittest.mock.patch.object(clock, "ahead", return_value=-wrong):
                self.assertEqual(clock.main(["http://127.0.0.1"]), code)

    def test_no_photo_has_left_a_device(self):
        photos = [path.read_bytes() for path in self.folder.glob("device-*/photos/*/*")]
        sent = b"".join(path.read_bytes() for path in self.folder.glob("keep/*/*.npz"))
        self.assertGreater(len(photos), 80)
        self.assertFalse(any(photo[60:160] in sent for photo in photos))


if __name__ == "__main__":
    unittest.main()
