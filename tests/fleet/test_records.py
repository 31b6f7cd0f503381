"""What comes in Flower's records, believed no further than it can be; and a run that goes on from an earlier one."""

import io
import math
import shutil
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, MetricRecord, RecordDict
from place import BUNDLE, split
from srlora.flower import FleetSettings
from srlora.flower.average import Refused
from srlora.flower.average import rows_of
from srlora.flower.client import device
from srlora.flower.files import gone_on_from, save
from srlora.flower.records import array_record, arrays_of, coded_record, counted, flag, measured, number, text, texts, whole, wholes
from srlora.flower.server import FleetStrategy
from srlora.flower.wire import update_as_sent
from test_average import fleet, update


def record(data, key="one/b"):
    return ArrayRecord({key: Array(dtype="float32", shape=(2, 2), stype="numpy.ndarray", data=data)})


def saved(array):
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


class Records(unittest.TestCase):
    def test_arrays_arrive_as_they_were_or_rounded_to_half(self):
        arrays = fleet().arrays
        whole_bits, half = arrays_of(array_record(arrays, "fp32"), 1), arrays_of(array_record(arrays, "int8"), 1)
        for key, array in arrays.items():
            np.testing.assert_array_equal(whole_bits[key], array)
            np.testing.assert_array_equal(half[key], array.astype(np.float16).astype(np.float32))
        too_large = {"head/bias": np.full(3, 1e6, np.float32)}
        self.assertTrue(np.isinf(arrays_of(array_record(too_large, "fp16"), 1)["head/bias"]).all())

    def test_codes_arrive_as_they_were_made_and_what_does_not_fit_them_is_refused_by_name(self):
        start = rows_of(fleet(), ["a", "c"])
        arrays = update(fleet(), 5, ["a", "c"], [1, 1]).arrays
        there = arrays_of(coded_record(arrays, start), 7, start)
        expected = update_as_sent(arrays, start, "int8")
        self.assertEqual(there.keys(), arrays.keys())
        self.assertTrue(all(there[key].tobytes() == expected[key].tobytes() for key in arrays))

        def spoiled(key, array):
            sent = {each: value.numpy() for each, value in coded_record(arrays, start).items()}
            sent[key] = array
            return ArrayRecord({each: Array(value) for each, value in sent.items() if value is not None})

        for key, array in (("one/b", np.zeros((5, 3), np.int8)), ("elsewhere", np.zeros(3, np.int8)),
                           ("one/b/scales", None), ("one/b/scales", np.zeros(2, np.float16)), ("one/b/scales", np.zeros(1, np.float32))):  # fmt: skip
            with self.assertRaises(Refused) as told:
                arrays_of(spoiled(key, array), 7, start)
            self.assertEqual((told.exception.node, told.exception.key), (7, key))
        with self.assertRaises(Refused):
            arrays_of(coded_record(arrays, start), 7)

    def test_what_is_no_array_is_refused_by_name_before_room_is_made(self):
        header = saved(np.zeros((2, 2), np.float32))
        huge = header.replace(b"(2, 2)", b"(9999999999, 9999)"[:18]).replace(b" " * 12, b"", 1)
        for data in (b"", b"no array", header[:-1], header + b"0", huge, b"\x93NUMPY\1\0\x0a\0{'descr': (", b"\x93NUMPY\1\0\xff\x7f" + b"-" * 40000, saved(np.zeros((1, 1, 1, 1, 1), "<f4")), saved(np.zeros(3, "O")), saved(np.zeros(3, "<i8")),
                     saved(np.asfortranarray(np.arange(6.0, dtype="<f4").reshape(2, 3))), saved(np.zeros(3, ">f4"))):  # fmt: skip
            with self.assertRaises(Refused) as told:
                arrays_of(record(data), 7)
            self.assertEqual((told.exception.node, told.exception.key), (7, "one/b"))

    def test_a_file_that_holds_no_fleet_is_named(self):
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / "fleet.npz"
            for made in (lambda: np.savez(path, classes=np.array(["a"])), lambda: path.write_bytes(b"no archive"),
                         lambda: path.write_bytes(b"PK\3\4 cut off"), lambda: path.write_bytes(b""),
                         lambda: save(fleet()._replace(classes=["a", "b"]), path),
                         lambda: save(fleet()._replace(arrays={**fleet().arrays, "one/b": np.full(3, "nan", np.float32)}), path)):  # fmt: skip
                made()
                with self.assertRaisesRegex(ValueError, rf"{path}: holds no fleet"):
                    gone_on_from(path, fleet())

    def test_what_a_device_says_stays_one_line_of_the_log(self):
        strategy = FleetStrategy(FleetSettings())
        strategy._refuse(3, "the classes of node 7\n\x1b[2Jround 3: all is well")
        self.assertEqual(strategy.refused, ["round 3: the classes of node 7  [2Jround 3: all is well"])

    def test_a_run_that_was_cut_after_its_last_round_still_gives_out_its_mean(self):
        strategy, asked = FleetStrategy(FleetSettings(rounds=3)), []
        strategy.fleet, strategy.done = fleet(), 3
        strategy.prepare = lambda grid: strategy._settled(strategy.fleet, 3)
        strategy._messages = lambda grid, number, kind: [(number, kind)]
        strategy.run(SimpleNamespace(send_and_receive=lambda messages, **_: asked.extend(messages) or []))
        self.assertEqual(asked, [(0, "evaluate")])

    def test_settings_name_what_cannot_be_meant(self):
        self.assertEqual(FleetSettings.of({"rounds": 7, "min-nodes": 3, "clip": 2}), FleetSettings(rounds=7, min_nodes=3, clip=2.0))
        for bad, name in (({"rounds": "7"}, "rounds"), ({"precision": "f8"}, "precision"), ({"resume": True}, "resume"), ({"most-weight": 0.5}, "most-weight"), ({"momentum": 1.0}, "momentum"), ({"pairs": "all"}, "pairs"), ({"noise": 1.0, "clip": 0.0}, "clip"),
                          ({"clip": True}, "clip"), ({"rounds": 2.5}, "rounds"), ({"rounds": 0}, "rounds"), ({"epochs": 0}, "epochs"), ({"clip": -1.0}, "clip"), ({"clip": math.nan}, "clip"),
                          ({"epsilon": -1.0}, "epsilon"), ({"epsilon": 8.0, "delta": -1.0}, "delta"), ({"epsilon": 8.0, "noise": 1.0}, "epsilon"),
                          ({"noise": 1.0, "pairs": "both"}, "noise"), ({"min-nodes": 0}, "min-nodes"), ({"round-timeout": math.nan}, "round-timeout")):  # fmt: skip
            with self.assertRaisesRegex(ValueError, f"`{name}`"):
                FleetSettings.of(bad)
        self.assertGreater(FleetSettings.of({"epsilon": 8.0}).noise, 0.5)
        for read, wrong in ((text, 3), (number, "3"), (whole, 3.0), (flag, 1), (texts, ["a", 3]), (wholes, [1, "2"]), (wholes, 3)):
            with self.assertRaisesRegex(ValueError, "`x`"):
                read({"x": wrong}, "x")

    def test_counts_and_measures_that_cannot_be_meant_are_refused(self):
        def counts(classes, photos):
            return RecordDict({"config": ConfigRecord({"classes": classes, "photos": photos})})

        self.assertEqual(counted(counts(["a", "b"], [1, 2])), {"a": 1, "b": 2})
        for bad in (counts(["a"], [0]), counts(["a", "a"], [1, 1]), counts(["a"], [1, 2]), counts([], []), counts(["a" * 256], [1]), counts(["a/b"], [1]), counts(["a\nb"], [1]), counts([".a"], [1]), counts([str(nth) for nth in range(5000)], [1] * 5000), counts([""], [1]), RecordDict()):
            with self.assertRaises((KeyError, ValueError)):
                counted(bad)
        good = {"num-examples": 3, "accuracy": 0.5, "kept-aside": 0, "tried-on": 3, "before": 0.1, "after": 0.5}
        self.assertEqual(measured(RecordDict({"metrics": MetricRecord(good)})), good)
        for bad in ({"accuracy": float("nan")}, {"accuracy": 1.5}, {"num-examples": -1}, {"kept-aside": 1000}, {"after": float("inf")}):
            with self.assertRaises(ValueError):
                measured(RecordDict({"metrics": MetricRecord({**good, **bad})}))
        with self.assertRaises(KeyError):
            measured(RecordDict())


class GoingOn(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def test_a_run_goes_on_from_an_earlier_one_with_rows_by_name(self):
        before, path = fleet(classes=("a", "c")), self.folder / "deep" / "fleet.npz"
        save(before, path, 4)
        self.assertEqual([each.name for each in path.parent.iterdir()], ["fleet.npz"], "nothing half-written is left")
        begun = fleet(classes=("a", "b", "c"))
        after, number = gone_on_from(path, begun)
        self.assertEqual(number, 4)
        np.testing.assert_array_equal(after.arrays["head/weight"][[0, 2]], before.arrays["head/weight"])
        np.testing.assert_array_equal(after.arrays["head/weight"][1], begun.arrays["head/weight"][1])
        np.testing.assert_array_equal(after.arrays["one/b"], before.arrays["one/b"])
        kept = FleetStrategy(FleetSettings(output=str(path)))
        with self.assertRaisesRegex(ValueError, "is there already"):
            kept._earlier()
        self.assertEqual(FleetStrategy(FleetSettings(output=str(path), resume=True))._earlier(), path)
        with self.assertRaisesRegex(ValueError, "another kind"):
            gone_on_from(path, fleet(both=True))
        with self.assertRaisesRegex(ValueError, "another bundle"):
            gone_on_from(path, begun._replace(bundle_sha256="0" * 64))
        fewer, _ = gone_on_from(path, fleet(classes=("b",)))
        self.assertEqual(fewer.classes, ["a", "b", "c"], "a device that is away today does not take its class along")
        np.testing.assert_array_equal(fewer.arrays["head/bias"][[0, 2]], before.arrays["head/bias"])


class Nodes(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        split(self.folder, 2)
        for nth in range(2):
            (self.folder / f"device-{nth}").rename(self.folder / str(nth))

    def found(self, run_config, **node_config):
        return device(Context(1, 2, node_config, RecordDict(), run_config))

    def test_a_simulated_node_finds_its_photos_by_its_partition(self):
        run = {"devices": str(self.folder), "bundle": str(BUNDLE)}
        for nth in range(2):
            one = self.found(run, **{"partition-id": nth, "num-partitions": 2})
            photos = {path for path, _ in one.trained_on + one.held_back}
            self.assertEqual(photos, set((self.folder / str(nth) / "photos").glob("*/*.png")))
            self.assertEqual(one.store, self.folder / str(nth) / "store")

    def test_a_node_that_names_a_path_of_its_own_is_told_no_other(self):
        run = {"devices": str(self.folder), "bundle": str(BUNDLE)}
        own = {"bundle": str(BUNDLE), "photos": str(self.folder / "1" / "photos"), "store": str(self.folder / "own")}
        there = self.found(run, **own, **{"partition-id": 0})
        self.assertEqual(there.store, self.folder / "own")
        self.assertTrue(all(self.folder / "1" in path.parents for path, _ in there.trained_on))
        for name, path in own.items():
            missing = next(each for each in own if each != name)
            with self.assertRaisesRegex(ValueError, f"`{missing}` is missing"):
                self.found(run, **{name: path, "partition-id": 0})

    def test_a_run_does_not_tell_a_real_node_where_its_photos_are(self):
        with self.assertRaisesRegex(ValueError, "bundle"):
            self.found({"devices": str(self.folder), "bundle": str(BUNDLE)})


if __name__ == "__main__":
    unittest.main()
