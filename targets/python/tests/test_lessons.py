"""Lessons: the program's bytes, progress, other threads, and steps that are taken one by one."""

import threading
import time
import warnings

import numpy as np
from place import BUNDLE, TRAIN, VAL, InFolder, files, needs_program, program, read_png

import srlora


def photos_of(folder):
    """Every photo of a folder of class folders, in the order in which a folder is read, and the class of each."""
    photos = sorted(folder.glob("*/*.png"))
    return photos, [photo.parent.name for photo in photos]


class Lessons(InFolder):
    @needs_program
    def test_a_store_has_the_bytes_of_the_program_s(self):
        settings = [
            ({}, ()),
            (
                {"steps": 20, "batch": 8, "seed": 3, "interval": 4, "lr": 2e-3, "val_split": 0.25, "threads": 2, "replay": 1 << 14},
                ("--steps", 20, "--batch", 8, "--seed", 3, "--interval", 4, "--lr", 2e-3, "--val-split", 0.25, "--threads", 2)
                + ("--replay", "16KiB"),
            ),
            (
                {"method": "lora", "epochs": 1, "start": "random", "seed": 7, "augment": True, "cache": "off", "head_lr": 0.01},
                ("--method", "lora", "--epochs", 1, "--start", "random", "--seed", 7, "--augment", "on", "--cache", "off")
                + ("--head-lr", 0.01),
            ),
            ({"method": "imprint"}, ("--method", "imprint")),
        ]
        for nth, (given, flags) in enumerate(settings):
            mine, theirs = self.folder / f"{nth}.mine", self.folder / f"{nth}.theirs"
            report = srlora.train(BUNDLE, TRAIN, mine, **given)
            expected = program("train", BUNDLE, "--data", TRAIN, "-o", theirs, *flags)
            self.assertEqual(files(mine), files(theirs), given)
            self.assertEqual(report.keys(), expected.keys())
            for key in ("method", "steps", "classes", "train_loss", "trial", "calibration", "val_accuracy", "generation", "recompositions"):
                self.assertEqual(report[key], expected[key], key)

    @needs_program
    def test_files_and_arrays_in_memory_give_the_bytes_of_their_folder(self):
        photos, labels = photos_of(TRAIN)
        whole, listed, arrays = (self.folder / name for name in ("whole", "listed", "arrays"))
        program("train", BUNDLE, "--data", TRAIN, "-o", whole, "--epochs", 2)
        srlora.train(BUNDLE, photos, listed, labels=labels, epochs=2)
        pixels = [np.asfortranarray(np.repeat(read_png(photo)[:, :, None], 3, axis=2)) for photo in photos]
        srlora.train(BUNDLE, pixels, arrays, labels=np.array(labels), epochs=2)
        self.assertEqual(files(listed), files(whole))
        self.assertEqual(files(arrays), files(whole))

    @needs_program
    def test_a_further_lesson_has_the_bytes_of_the_program_s(self):
        mine, theirs = self.folder / "mine", self.folder / "theirs"
        photos, labels = photos_of(TRAIN)
        first = [at for at, label in enumerate(labels) if label < "5"]
        few = self.folder / "few"
        few.mkdir()
        for name in "01234":
            (few / name).symlink_to(TRAIN / name)
        srlora.train(BUNDLE, [photos[at] for at in first], mine, labels=[labels[at] for at in first], epochs=1)
        program("train", BUNDLE, "--data", few, "-o", theirs, "--epochs", 1)
        srlora.train(BUNDLE, TRAIN, mine, further=True, epochs=1, val=VAL)
        program("train", BUNDLE, "--data", TRAIN, "--from", theirs, "--epochs", 1, "--val", VAL)
        self.assertEqual(files(mine), files(theirs))
        self.assertEqual(srlora.Store(mine).classes_, list("0123456789"))

    def test_events_are_plain_dicts_from_the_calling_thread(self):
        told, threads = [], set()

        def callback(event):
            told.append(event)
            threads.add(threading.get_ident())

        report = srlora.train(BUNDLE, TRAIN, self.folder / "a", steps=5, callback=callback)
        self.assertEqual(threads, {threading.get_ident()})
        self.assertTrue(all(type(event) is dict for event in told))
        steps = [event for event in told if event["event"] == "step"]
        self.assertEqual([event["step"] for event in steps], [1, 2, 3, 4, 5])
        self.assertEqual(next(e for e in told if e["event"] == "planned")["forecast"], report["planned"])
        imprint = [e for e in told if e.get("phase") == "imprint"]
        self.assertEqual((imprint[0]["event"], imprint[0]["total"], imprint[-1]["event"]), ("begin", 120, "end"))
        self.assertEqual([e["done"] for e in imprint[1:-1]], list(range(1, 121)))

    def test_a_callback_stops_a_lesson_which_goes_on_to_the_same_bytes(self):
        whole, parts = self.folder / "whole", self.folder / "parts"
        srlora.train(BUNDLE, TRAIN, whole, steps=12)
        with self.assertRaisesRegex(srlora.Stopped, r"parts: stopped after step 4 of 12; go on with `resume=True`"):
            srlora.train(BUNDLE, TRAIN, parts, steps=12, callback=lambda event: event.get("step") != 4)
        report = srlora.train(BUNDLE, TRAIN, parts, steps=12, resume=True)
        self.assertEqual(report["resumed_after"], 4)
        self.assertEqual(files(parts), files(whole))

    def test_what_a_callback_raises_ends_the_lesson_and_comes_out(self):
        class Enough(Exception):
            pass

        def callback(event):
            if event.get("step") == 3:
                raise Enough("of it")

        with self.assertRaisesRegex(Enough, "of it") as raised:
            srlora.train(BUNDLE, TRAIN, self.folder / "a", steps=12, callback=callback)
        self.assertIsInstance(raised.exception.__cause__, srlora.Stopped)
        self.assertEqual(srlora.train(BUNDLE, TRAIN, self.folder / "a", steps=12, resume=True)["resumed_after"], 3)

    def test_warnings_go_to_warnings_where_nobody_listens_and_to_the_callback_where_one_does(self):
        photos, labels = photos_of(TRAIN)
        photos[3] = b"no photo"
        with self.assertWarnsRegex(srlora.SrloraWarning, "set aside image 3 of class 0") as warned:
            report = srlora.train(BUNDLE, photos, self.folder / "a", labels=labels, steps=2)
        self.assertEqual(warned.filename, __file__, "the warning is of the line that has called")
        self.assertEqual([photo["path"] for photo in report["quarantined"]], ["image 3 of class 0"])
        told = []
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            srlora.train(BUNDLE, photos, self.folder / "b", labels=labels, steps=2, callback=told.append)
        self.assertTrue(any(e["event"] == "warning" and "image 3" in e["text"] for e in told))

    def test_other_threads_run_while_a_lesson_does(self):
        counted, over = [0], threading.Event()

        def count():
            while not over.is_set():
                counted[0] += 1

        def rate(work):
            begin, before = time.perf_counter(), counted[0]
            work()
            return (counted[0] - before) / (time.perf_counter() - begin)

        other = threading.Thread(target=count)
        other.start()
        try:
            alone = rate(lambda: time.sleep(0.5))
            beside = rate(lambda: srlora.train(BUNDLE, TRAIN, self.folder / "a", epochs=8))
        finally:
            over.set()
            other.join()
        self.says(f"another thread counts {beside / alone:.0%} as fast beside a lesson as beside nothing")
        # With the lock held it would count nothing. How much it does count depends on what else the machine has to do.
        self.assertGreater(beside, 0.02 * alone)

    def test_a_trainer_does_the_same_step_by_step(self):
        whole, parts = self.folder / "whole", self.folder / "parts"
        expected = srlora.train(BUNDLE, TRAIN, whole, steps=6)
        with srlora.Trainer(BUNDLE, TRAIN, parts, steps=6) as trainer:
            self.assertEqual((trainer.forecast["steps"], trainer.classes_, trainer.report), (6, list("0123456789"), None))
            happened = list(trainer)
            self.assertEqual(list(trainer), [], "it is over")
        self.assertEqual([h["happened"] for h in happened], ["imprinted", "ready"] + ["step"] * 6 + ["ended"])
        self.assertEqual([h["step"] for h in happened[2:-1]], list(range(1, 7)))
        self.assertEqual(happened[-1]["report"]["train_loss"], expected["train_loss"])
        self.assertEqual(trainer.report, happened[-1]["report"])
        self.assertEqual(files(parts), files(whole))

    def test_a_trainer_that_is_let_go_leaves_its_store_to_others(self):
        store = self.folder / "a"
        trainer = srlora.Trainer(BUNDLE, TRAIN, store, steps=6, checkpoint=0)
        for happened in trainer:
            if happened.get("step") == 2:
                break
        with self.assertRaisesRegex(srlora.BusyError, "another writer"):
            srlora.Store(store).rollback()
        trainer.close()
        with self.assertRaisesRegex(srlora.UsageError, "was closed"):
            trainer.step()
        with srlora.Trainer(BUNDLE, TRAIN, store, steps=6, resume=True) as trainer:
            self.assertEqual(trainer.run()["resumed_after"], 2)
            self.assertEqual(trainer.run()["steps"], 6, "asked again, it says the same")

    def test_a_trainer_is_stopped_from_another_thread_and_is_not_asked_twice_at_once(self):
        with srlora.Trainer(BUNDLE, TRAIN, self.folder / "a", epochs=500) as trainer:
            again = []

            def callback(event):
                if event.get("step") == 3:
                    with self.assertRaisesRegex(srlora.UsageError, "at work already"):
                        trainer.step()
                    again.append(True)
                    threading.Timer(0.05, trainer.stop).start()

            with self.assertRaises(srlora.Stopped):
                trainer.run(callback)
            self.assertEqual(again, [True])
            with self.assertRaisesRegex(srlora.UsageError, "ended with an error before"):
                trainer.step()

    @needs_program
    def test_a_plan_is_the_program_s_and_nothing_is_written(self):
        store = self.folder / "a"
        plan = srlora.plan(BUNDLE, TRAIN, store, epochs=3)
        self.assertFalse(store.exists())
        planned = program("train", BUNDLE, "--data", TRAIN, "-o", store, "--epochs", 3)["planned"]
        self.assertEqual(plan.keys(), planned.keys())
        for key in ("threads", "recompute", "cache", "cache_bytes", "write_bytes", "checkpoint_bytes", "steps"):
            self.assertEqual(plan[key], planned[key], key)

    @needs_program
    def test_accuracy_is_the_program_s(self):
        store = self.folder / "a"
        srlora.train(BUNDLE, TRAIN, store, epochs=2)
        mine = srlora.evaluate(BUNDLE, VAL, store, mistakes=3)
        theirs = program("eval", BUNDLE, "--data", VAL, "--store", store, "--mistakes", 3)
        for side in (mine, theirs):
            side.pop("images_per_second")
        self.assertEqual(mine, theirs)
        photos, labels = photos_of(VAL)
        self.assertEqual(srlora.evaluate(BUNDLE, photos, store, labels=labels)["accuracy"], mine["accuracy"])
        with self.assertRaises(srlora.Stopped):
            srlora.evaluate(BUNDLE, VAL, store, callback=lambda event: event.get("done") != 20)
