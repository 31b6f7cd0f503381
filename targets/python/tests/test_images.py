"""Images: a file, its bytes and its pixels are one photo, however the pixels lie in memory."""

import pathlib

import numpy as np
from place import ASSETS, BUNDLE, TRAIN, VAL, InFolder, needs_assets, needs_program, program, read_png

import srlora

PHOTO = VAL / "7" / "0061.png"


class Images(InFolder):
    @classmethod
    def setUpClass(cls):
        cls.classifier = srlora.Classifier(BUNDLE)
        cls.grey = read_png(PHOTO)
        cls.rgb = np.repeat(cls.grey[:, :, None], 3, axis=2)

    def proba(self, image):
        return self.classifier.predict_proba(image)

    def test_a_file_its_bytes_and_its_pixels_are_one_photo(self):
        expected = self.proba(PHOTO)
        data = PHOTO.read_bytes()
        for image in (str(PHOTO), data, bytearray(data), memoryview(data), self.grey, self.grey[:, :, None], self.rgb):
            np.testing.assert_array_equal(self.proba(image), expected)

    def test_pixels_are_right_whatever_their_strides(self):
        # Colours that differ, so that a swapped axis or channel shows.
        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (40, 30, 3), np.uint8)
        expected = self.proba(image)
        padded = np.zeros((40, 37, 3), np.uint8)
        padded[:, :30] = image
        wide = np.zeros((80, 60, 6), np.uint8)
        wide[::2, ::2, ::2] = image
        planes = np.ascontiguousarray(image.transpose(2, 0, 1))
        ways = {
            "padded rows": padded[:, :30],
            "every second pixel, row and channel": wide[::2, ::2, ::2],
            "Fortran order": np.asfortranarray(image),
            "planes": planes.transpose(1, 2, 0),
            "rows backwards": image[::-1].copy()[::-1],
            "columns backwards": image[:, ::-1].copy()[:, ::-1],
            "channels backwards, as OpenCV has them": image[:, :, ::-1].copy()[:, :, ::-1],
            "all backwards": image[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1],
            "read-only": np.frombuffer(image.tobytes(), np.uint8).reshape(image.shape),
        }
        for name, view in ways.items():
            with self.subTest(name):
                np.testing.assert_array_equal(view, image)
                np.testing.assert_array_equal(self.proba(view), expected)
        self.assertFalse(np.array_equal(self.proba(image[::-1]), expected), "upside down is another photo")
        self.assertFalse(np.array_equal(self.proba(image[:, :, ::-1]), expected), "BGR is another photo")
        one = np.broadcast_to(np.uint8(7), (40, 30, 3))
        np.testing.assert_array_equal(self.proba(one), self.proba(np.full((40, 30, 3), 7, np.uint8)))

    def test_an_array_is_copied_when_it_is_given(self):
        image = self.rgb.copy()
        before = self.proba(image)
        image[:] = 0
        np.testing.assert_array_equal(self.proba(self.rgb), before)

    def test_one_image_gives_a_row_and_several_give_rows(self):
        one, many = self.proba(PHOTO), self.proba([PHOTO, self.rgb])
        self.assertEqual((one.shape, many.shape, one.dtype), ((47,), (2, 47), np.float32))
        np.testing.assert_array_equal(many, np.stack([one, one]))
        np.testing.assert_array_equal(self.proba(iter([PHOTO])), one[None])
        self.assertEqual(self.proba([]).shape, (0, 47))
        self.assertAlmostEqual(float(one.sum()), 1.0, places=5)
        best = self.classifier.predict(PHOTO, top=3)
        order = np.argsort(-one, kind="stable")[:3]
        self.assertEqual(best, [(self.classifier.classes_[at], float(one[at])) for at in order])
        self.assertEqual(self.classifier.predict((PHOTO, PHOTO), top=3), [best, best])
        self.assertEqual(len(self.classifier.predict(PHOTO, top=10**6)), 47)

    def refused(self, kind, image, *words):
        with self.assertRaises(kind) as raised:
            self.proba(image)
        for word in words:
            self.assertIn(word, str(raised.exception))

    def test_what_is_no_image_is_refused_with_the_reason(self):
        floats = self.rgb / np.float32(255)
        self.refused(TypeError, floats, "the image: an array of float32", "0 to 1, 0 to 255, or already normalized", ".astype(numpy.uint8)")
        self.refused(TypeError, [PHOTO, floats], "image 1: an array of float32")
        self.refused(TypeError, self.rgb.astype(np.int64), "int64", "uint8")
        self.refused(TypeError, np.zeros((4, 4), bool), "bool", "uint8")
        self.refused(TypeError, np.zeros((2, 8, 8, 3), np.uint8), "list(images)")
        self.refused(TypeError, np.zeros((8, 8, 4), np.uint8), "image[..., :3]")
        self.refused(TypeError, np.zeros((3, 8, 8), np.uint8), "image.transpose(1, 2, 0)")
        self.refused(TypeError, np.zeros(8, np.uint8), "height x width x 3")
        self.refused(TypeError, [1.5], "image 0 is <class 'float'>")
        self.refused(TypeError, 7, "iterable")
        self.refused(srlora.ImageError, np.zeros((0, 8, 3), np.uint8), "the image, 8x0 pixels: are none")
        # 20 GB of pixels that take no memory: they are not copied to be refused.
        self.refused(srlora.ImageError, np.broadcast_to(np.uint8(1), (65000, 100000, 3)), "above the limit of 64 megapixels")
        self.refused(srlora.ImageError, b"no photo", "the image: ")
        self.refused(srlora.ImageError, pathlib.Path("no/such/photo.png"), "no/such/photo.png: ")

    @needs_program
    def test_the_program_says_the_same(self):
        store = self.folder / "my.store"
        srlora.train(BUNDLE, TRAIN, store, epochs=2)
        photos = sorted(VAL.glob("*/00*.png"))[:20]
        told = srlora.Classifier(BUNDLE, srlora.Store(store)).examine(photos, top=4)
        for answer, photo in zip(told, photos):
            expected = program("predict", BUNDLE, "--store", store, "--top", 4, photo)
            self.assertIsNone(expected.pop("error"))
            for side in (answer, expected):
                side.pop("ms")
                # The program prints the shortest number that is the same float32.
                side["confidence"] = np.float32(side["confidence"])
                for guess in side["top"]:
                    guess["probability"] = np.float32(guess["probability"])
            self.assertEqual(answer, expected)

    def test_features_are_those_that_the_head_reads(self):
        with self.assertRaisesRegex(srlora.UsageError, "embed: .*store"):
            srlora.Classifier(BUNDLE).embed(PHOTO)
        store = self.folder / "my.store"
        srlora.train(BUNDLE, TRAIN, store, epochs=1)
        classifier, bundle = srlora.Classifier(BUNDLE, store), srlora.Bundle(BUNDLE)
        features = classifier.embed([PHOTO, self.grey])
        self.assertEqual((features.shape, features.dtype), ((2, bundle.feature_dim), np.float32))
        np.testing.assert_array_equal(features[0], features[1])
        np.testing.assert_array_equal(classifier.embed(PHOTO), features[0])

    @needs_assets
    def test_a_photo_of_a_camera_is_one_photo_as_file_and_as_bytes(self):
        bundle = self.folder / "mobilenet.bundle"
        srlora.pack(ASSETS / "models/mobilenetv2_1.0_224_int8_qdq_ort.onnx", bundle, preset="torchvision")
        photo = next((ASSETS / "data/flowers500").rglob("*.jpg"))
        store = self.folder / "my.store"
        photos = sorted((ASSETS / "data/flowers500").rglob("*.jpg"))
        few = [p for p in photos if p.parent == photos[0].parent][:3] + [p for p in photos if p.parent != photos[0].parent][:3]
        srlora.train(bundle, few, store, labels=[p.parent.name for p in few], method="imprint")
        classifier = srlora.Classifier(bundle, store)
        np.testing.assert_array_equal(classifier.predict_proba(photo), classifier.predict_proba(photo.read_bytes()))
