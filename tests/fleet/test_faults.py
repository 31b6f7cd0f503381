"""Real SuperLinks and SuperNodes that are killed in each phase: each is named, nothing is lost, and the run goes on."""

import re
import unittest

import numpy as np
import runs
import srlora
from place import BUNDLE, HANDWRITING


class KilledDevices(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.run_ = runs.result("dies")

    def test_the_run_ends_and_each_device_that_was_killed_is_named(self):
        self.assertEqual(self.run_.state, "finished:completed", self.run_.told)
        lost = re.findall(r"round (\d): node (\d+) has failed: (.*)", self.run_.told)
        print("\n".join(f"    round {number}: node {node} has failed: {why}" for number, node, why in lost))
        self.assertEqual([number for number, _, _ in lost], ["1", "1", "2", "2"])
        self.assertEqual(len({node for _, node, _ in lost}), 4)

    def test_the_rounds_have_the_devices_that_are_there(self):
        rounds = [[path for path in (self.run_.folder / "keep" / f"round-00{number}").glob("*.npz") if path.stem.isdigit()] for number in (1, 2)]
        self.assertEqual([len(updates) for updates in rounds], [1, 3])

    def test_a_kill_changes_no_byte_of_a_store(self):
        self.assertEqual(set(self.run_.killed), {"waits-to-begin", "waits-in-lesson", "waits-to-evaluate"})
        for where, (before, after) in self.run_.killed.items():
            self.assertTrue(before)
            self.assertEqual(before, after, where)

    def test_a_store_whose_adoption_was_cut_is_whole(self):
        """It is as it was, or has taken the mean: whatever the moment was."""
        store = srlora.Store(self.run_.folder / "device-2" / "store")
        formats = {1: None, 2: "fleet", 3: "fleet"}
        for number in store.generations:
            self.assertIn(number, formats)
        accuracy = srlora.evaluate(BUNDLE, HANDWRITING / "val", store.path, progress=False)["accuracy"]
        print(f"    generation {store.current} of {store.generations}: {100 * accuracy:.1f} %")
        self.assertGreater(accuracy, 0.3)


class RestartedServer(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.run_ = runs.result("restarts")

    def test_what_is_kept_is_the_fleet_after_the_last_whole_round(self):
        self.assertEqual(self.run_.after_round, 1)

    def test_stores_are_as_they_were(self):
        before, after = self.run_.stores
        self.assertTrue(all(before))
        self.assertEqual(before, after)

    def test_a_new_run_makes_the_rounds_that_are_left_with_the_same_nodes(self):
        self.assertEqual(self.run_.state, "finished:completed", self.run_.told)
        self.assertIn("is after round 1 of 3", self.run_.told)
        with np.load(self.run_.folder / "fleet.npz") as file:
            self.assertEqual(int(file["round"]), 3)
        for device in range(2):
            record = srlora.Store(self.run_.folder / f"device-{device}" / "store").record
            self.assertEqual(record["imported"]["format"], "fleet")


if __name__ == "__main__":
    unittest.main()
