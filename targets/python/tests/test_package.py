"""The wheel itself: what it says of its types is true, and what it is built of is what the program is built of."""

import re
import typing

import srlora
from place import BUNDLE, HANDWRITING, ROOT, TRAIN, InFolder
from srlora import types

HERE = ROOT / "targets" / "python"


def fits(value, kind):
    """Whether a value is what the annotation `kind` says, in all its parts; and no dict has a key too many."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if kind is typing.Any:
        return True
    if origin is typing.Union:
        return any(fits(value, part) for part in parts)
    if origin is typing.Literal:
        return value in parts
    if origin in (list, typing.List):
        return isinstance(value, list) and all(fits(item, parts[0]) for item in value)
    if origin in (dict, typing.Dict):
        return isinstance(value, dict)
    if typing.is_typeddict(kind):
        hints = typing.get_type_hints(kind)
        named = isinstance(value, dict) and kind.__required_keys__ <= value.keys() <= hints.keys()
        return named and all(fits(item, hints[key]) for key, item in value.items())
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is kind


class Package(InFolder):
    def test_what_comes_out_is_of_the_types_that_are_said(self):
        store, events = self.folder / "a", []
        report = srlora.train(BUNDLE, TRAIN, store, epochs=1, val_split=0.2, callback=events.append)
        for event in events:
            self.assertTrue(fits(event, types.Event), event)
        self.assertTrue(fits(report, types.TrainReport), report)
        further = srlora.train(BUNDLE, TRAIN, store, epochs=1, further=True)
        self.assertTrue(fits(further, types.TrainReport), further)
        self.assertTrue(further["trial"] and further["trial"]["known"])
        with srlora.Trainer(BUNDLE, TRAIN, self.folder / "b", steps=1) as trainer:
            for happened in trainer:
                self.assertTrue(fits(happened, types.Happened), happened)
            self.assertTrue(fits(trainer.forecast, types.Forecast))
        photo = next(TRAIN.glob("*/*.png"))
        self.assertTrue(fits(srlora.Classifier(BUNDLE, store).examine(photo), types.Prediction))
        for path in (BUNDLE, store):
            self.assertTrue(fits(srlora.inspect(path), types.Inspection), path)
        unknown = srlora.evaluate(BUNDLE, TRAIN, store, mistakes=2, unknown=TRAIN)
        self.assertTrue(fits(unknown, types.Evaluation), unknown)
        packed = srlora.pack(HANDWRITING / "backbone.onnx", self.folder / "b.bundle", preset="unit")
        self.assertTrue(fits(packed, types.PackReport), packed)
        exported = srlora.export_onnx(BUNDLE, store, self.folder / "c.onnx")
        self.assertTrue(fits(exported, types.ExportReport), exported)
        self.assertFalse(fits(report | {"more": 1}, types.TrainReport), "the check can fail")
        self.assertFalse(fits(report | {"steps": "1"}, types.TrainReport), "the check can fail")

    def test_every_setting_is_taken_under_the_name_that_is_said(self):
        # None is as good as none given, so a name that is not known is all that can be refused.
        lesson = dict.fromkeys(types.Settings.__annotations__)
        srlora.plan(BUNDLE, TRAIN, self.folder / "a", **lesson)
        none = self.folder / "none"
        for call, files, settings in (
            (srlora.pack, 2, types.PackSettings),
            (srlora.export_onnx, 3, types.OnnxSettings),
            (srlora.export_peft, 3, types.PeftSettings),
            (srlora.import_peft, 3, types.ImportSettings),
            (srlora.evaluate, 3, types.EvaluateSettings),
        ):
            names = dict.fromkeys(typing.get_type_hints(settings))
            # Refused for what is not there, and not for its keywords.
            with self.assertRaises(srlora.Error):
                call(*[none] * files, **names)

    def packages(self, lock):
        """The version of each package, for each line of versions that take each other's place: 1.x, 0.2.x."""
        pairs = re.findall(r'name = "(.+)"\nversion = "(.+)"', lock.read_text())
        return {(name, re.match(r"0\.\d+|\d+", version)[0]): version for name, version in pairs}

    def test_what_the_program_is_built_of_the_wheel_is_built_of(self):
        mine, theirs = (self.packages(place / "Cargo.lock") for place in (HERE, ROOT))
        differ = {name for name in mine.keys() & theirs.keys() if mine[name] != theirs[name]}
        self.assertEqual(differ, set(), "cargo update -p NAME --precise VERSION, in targets/python")

    def test_it_is_built_as_the_program_is(self):
        def profiles(manifest):
            text = manifest.read_text()
            tables = re.findall(r"^\[(profile\.release[^\]]*)\]\n((?:[a-z-]+ = .*\n)+)", text, re.MULTILINE)
            return dict(tables)

        mine, theirs = profiles(HERE / "Cargo.toml"), profiles(ROOT / "Cargo.toml")
        only_cli = {f"profile.release.package.{name}" for name in ("clap_builder", "console", "indicatif")}
        self.assertEqual(mine, {name: table for name, table in theirs.items() if name not in only_cli})
        versions = [re.search(r'^version = "(.+)"', (place / "Cargo.toml").read_text(), re.MULTILINE)[1] for place in (HERE, ROOT)]
        self.assertEqual([srlora.__version__] * 2, versions)

    def test_all_that_is_public_has_a_docstring(self):
        for name in dir(srlora):
            thing = getattr(srlora, name)
            if name.startswith("_") or not callable(thing):
                continue
            self.assertTrue(thing.__doc__, name)
            for member in vars(thing) if isinstance(thing, type) else ():
                if not member.startswith("_"):
                    self.assertTrue(getattr(thing, member).__doc__ or isinstance(getattr(thing, member), str), f"{name}.{member}")
