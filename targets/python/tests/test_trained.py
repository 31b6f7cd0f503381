"""What was trained as arrays, out of a store and into one."""

import numpy as np
import srlora
from place import BUNDLE, TRAIN, VAL, InFolder
from srlora import types
from test_package import fits

LESSON = {"method": "lora", "pairs": "one-sided", "directions": "shipped", "steps": 6}


class Arrays(InFolder):
    def setUp(self):
        super().setUp()
        self.store = self.folder / "store"
        srlora.train(BUNDLE, TRAIN, self.store, **LESSON)
        self.trained = srlora.trained(BUNDLE, self.store)

    def spoiled(self, key, array):
        return {**self.trained, "arrays": {**self.trained["arrays"], key: array}}

    def test_they_go_out_and_in_and_classify_the_same(self):
        self.assertEqual(set(self.trained), set(types.Trained.__annotations__))
        self.assertEqual({array.dtype for array in self.trained["arrays"].values()}, {np.dtype(np.float32)})
        adopted = srlora.adopt(BUNDLE, self.trained, self.folder / "other")
        self.assertTrue(fits(adopted, types.Adopted), adopted)
        again = srlora.trained(BUNDLE, srlora.Store(self.folder / "other"))
        for key, array in self.trained["arrays"].items():
            np.testing.assert_array_equal(array, again["arrays"][key])
        photos = sorted(VAL.glob("*/*.png"))[:20]
        embed = [srlora.Classifier(BUNDLE, store).embed(photos) for store in (self.store, self.folder / "other")]
        np.testing.assert_array_equal(*embed)

    def test_an_array_may_have_any_strides(self):
        key = "head/weight"
        turned = np.asfortranarray(self.trained["arrays"][key])
        srlora.adopt(BUNDLE, self.spoiled(key, turned), self.folder / "other")
        np.testing.assert_array_equal(srlora.trained(BUNDLE, self.folder / "other")["arrays"][key], turned)

    def test_what_is_worse_is_kept_aside(self):
        weight = self.trained["arrays"]["head/weight"]
        adopted = srlora.adopt(BUNDLE, self.spoiled("head/weight", -weight), self.store, val=VAL)
        self.assertTrue(fits(adopted, types.Adopted), adopted)
        self.assertEqual((adopted["aside"], srlora.Store(self.store).aside), (3, [3]))
        self.assertLess(adopted["trial"]["after"], adopted["trial"]["before"])

    def test_what_cannot_be_meant_is_refused_by_name(self):
        bias = self.trained["arrays"]["head/bias"]
        for key, array, kind, text in (
            ("head/bias", np.full_like(bias, np.nan), srlora.MismatchError, "head/bias: holds NaN at 0"),
            ("head/bias", bias[:3].copy(), srlora.MismatchError, r"head/bias: has the shape \[3\], and \[10\] fits"),
            ("none/b", bias, srlora.MismatchError, "none/b: is no array of a site of the bundle"),
            ("head/bias", bias.astype(np.float64), TypeError, "the array 'head/bias' is .* it is a numpy array of float32"),
            ("head/bias", bias.tolist(), TypeError, "the array 'head/bias' is .*list"),
        ):
            with self.assertRaisesRegex(kind, text):
                srlora.adopt(BUNDLE, self.spoiled(key, array), self.folder / "none")
        with self.assertRaisesRegex(srlora.MismatchError, "is another bundle than the one"):
            srlora.adopt(BUNDLE, {**self.trained, "bundle_sha256": "0" * 64}, self.folder / "none")
        for bad, kind in (({}, KeyError), ([], TypeError), ({**self.trained, "arrays": 3}, TypeError)):
            with self.assertRaises(kind):
                srlora.adopt(BUNDLE, bad, self.folder / "none")
        self.assertFalse((self.folder / "none").exists())

    def test_a_default_lesson_has_directions_of_its_own_which_are_not_told(self):
        srlora.train(BUNDLE, TRAIN, self.folder / "own", steps=3)
        with self.assertRaisesRegex(srlora.MismatchError, "found in this device's photos.*train with `directions` shipped"):
            srlora.trained(BUNDLE, self.folder / "own")
