"""Stores: what they hold, and how they change, as the program has it."""

import shutil

from place import BUNDLE, TRAIN, VAL, InFolder, files, needs_program, program

import srlora


class Stores(InFolder):
    def setUp(self):
        super().setUp()
        self.store = self.folder / "my.store"
        srlora.train(BUNDLE, TRAIN, self.store, epochs=2)

    def test_generations_go_back_and_forth(self):
        store, photo = srlora.Store(self.store), VAL / "7" / "0061.png"
        self.assertEqual((store.current, store.generations, store.aside), (2, [2, 1], []))
        self.assertEqual((store.path, store.classes_), (str(self.store), list("0123456789")))
        self.assertEqual(store.record["steps"], 16)
        learned, imprinted = (srlora.Classifier(BUNDLE, self.store).predict(photo), None)
        self.assertEqual(store.rollback(), 1)
        imprinted = srlora.Classifier(BUNDLE, store).predict(photo)
        self.assertEqual((store.current, store.generations), (3, [3, 2, 1]))
        self.assertNotEqual(imprinted, learned)
        self.assertEqual(store.rollback(to=2), 2)
        self.assertEqual(srlora.Classifier(BUNDLE, store).predict(photo), learned)
        with self.assertRaisesRegex(srlora.UsageError, "`to`: there is no generation 9 in .*; `to` goes to any of 1, 2, 3, 4"):
            store.rollback(to=9)

    @needs_program
    def test_a_change_has_the_bytes_of_the_program_s(self):
        theirs = self.folder / "theirs"
        shutil.copytree(self.store, theirs)
        store = srlora.Store(self.store)
        store.forget("3")
        program("forget", theirs, "3")
        self.assertEqual(store.classes_, list("012456789"))
        self.assertEqual(files(self.store), files(theirs))
        store.rollback()
        program("rollback", theirs)
        self.assertEqual(files(self.store), files(theirs))
        with self.assertRaisesRegex(srlora.UsageError, "knows no class 11; it knows 0, 1, 2"):
            store.forget("11")

    @needs_program
    def test_what_a_bundle_and_a_store_hold_is_what_the_program_says(self):
        self.assertEqual(srlora.inspect(self.store), program("inspect", self.store))
        self.assertEqual(srlora.inspect(BUNDLE), program("inspect", BUNDLE))
        bundle, told = srlora.Bundle(BUNDLE), program("inspect", BUNDLE)
        self.assertEqual(bundle.sites, [site["name"] for site in told["sites"]])
        self.assertEqual((bundle.rank, bundle.precision, bundle.labels), (told["rank"], told["precision"], told["labels"]))
        self.assertEqual((bundle.path, bundle.input, bundle.feature_dim, bundle.release), (str(BUNDLE), (32, 32), 96, None))

    def test_a_change_lets_a_lesson_under_way_go_and_says_so(self):
        with self.assertRaises(srlora.Stopped):
            srlora.train(BUNDLE, TRAIN, self.store, further=True, callback=lambda event: event.get("step") != 2)
        with self.assertWarnsRegex(srlora.SrloraWarning, "a lesson under way, after step 2, is let go"):
            srlora.Store(self.store).rollback()

    def test_a_damaged_generation_is_passed_over_and_that_is_said(self):
        newest = self.store / "generation-000002.safetensors"
        newest.write_bytes(newest.read_bytes()[:-10])
        with self.assertWarnsRegex(srlora.SrloraWarning, "the newest generation is passed over and generation 1 used"):
            self.assertEqual(srlora.Store(self.store).current, 1)
        with self.assertWarns(srlora.SrloraWarning):
            srlora.Classifier(BUNDLE, self.store)
