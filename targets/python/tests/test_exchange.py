"""What was learned in the files of others, and bundles: as the program writes them."""

import filecmp

from place import BUNDLE, ROOT, TRAIN, InFolder, needs_program, program

import srlora

MODEL = ROOT / "models" / "handwriting" / "backbone.onnx"
LABELS = ROOT / "models" / "handwriting" / "labels.txt"


def steady(report):
    """Without what differs from run to run."""
    return {key: value for key, value in report.items() if key not in ("seconds", "peak_rss_bytes", "files")}


class Exchange(InFolder):
    @needs_program
    def test_a_bundle_is_the_program_s(self):
        mine, theirs = self.folder / "mine.bundle", self.folder / "theirs.bundle"
        report = srlora.pack(
            MODEL, mine, rank=4, reserve=16, sites="last:6", fit="stretch", mean=0.5, std=(0.5, 0.5, 0.5), labels=LABELS, release=3
        )
        flags = ("--rank", 4, "--reserve", 16, "--sites", "last:6", "--fit", "stretch", "--mean", 0.5, "--std", 0.5)
        expected = program("pack", MODEL, "-o", theirs, *flags, "--labels", LABELS, "--release", 3)
        self.assertEqual(mine.read_bytes(), theirs.read_bytes())
        self.assertEqual(steady(report), steady(expected))

    @needs_program
    def test_defaults_of_pack_are_the_program_s_and_a_warning_names_arguments(self):
        mine, theirs = self.folder / "mine.bundle", self.folder / "theirs.bundle"
        with self.assertWarnsRegex(srlora.SrloraWarning, "nothing says which values .*: see `preset`, of which unit says"):
            report = srlora.pack(MODEL, mine)
        expected = program("pack", MODEL, "-o", theirs)
        self.assertEqual(mine.read_bytes(), theirs.read_bytes())
        self.assertEqual(steady(report) | {"warnings": 0}, steady(expected) | {"warnings": 0})
        self.assertEqual([text.replace("`preset`", "--preset") for text in report["warnings"]], expected["warnings"])

    @needs_program
    def test_exports_are_the_program_s_and_come_back(self):
        store = self.folder / "a"
        srlora.train(BUNDLE, TRAIN, store, epochs=2)
        mine, theirs = self.folder / "mine.onnx", self.folder / "theirs.onnx"
        told = []
        report = srlora.export_onnx(BUNDLE, store, mine, precision="fp16", with_preprocessing=True, callback=told.append)
        flags = ("--onnx", theirs, "--precision", "fp16", "--with-preprocessing")
        expected = program("export", BUNDLE, "--store", store, *flags)
        self.assertEqual(mine.read_bytes(), theirs.read_bytes())
        self.assertEqual(steady(report), steady(expected))
        self.assertEqual([file["path"] for file in report["files"]], [str(mine)])

        mine, theirs, names = self.folder / "mine.peft", self.folder / "theirs.peft", self.folder / "names.toml"
        sites = srlora.Bundle(BUNDLE).sites
        lines = [f'"{name}" = "layers.{nth}"' for nth, name in enumerate(sites)]
        names.write_text("\n".join([*lines, 'head = "classifier"']) + "\n")
        with self.assertWarnsRegex(srlora.SrloraWarning, "batch norms are folded .* with `torch`"):
            report = srlora.export_peft(BUNDLE, srlora.Store(store), mine, rank=0.99, map=names)
        expected = program("export", BUNDLE, "--store", store, "--peft", theirs, "--rank", 0.99, "--map", names)
        self.assertEqual(steady(report), steady(expected))
        self.assertEqual(filecmp.cmpfiles(mine, theirs, ["adapter_model.safetensors", "adapter_config.json"], shallow=False)[1:], ([], []))

        back, again = self.folder / "back", self.folder / "again"
        report = srlora.import_peft(BUNDLE, mine, back, map=names)
        expected = program("import", BUNDLE, "--peft", mine, "-o", again, "--map", names)
        self.assertEqual(report | {"store": ""}, expected | {"store": ""})
        self.assertEqual(srlora.Store(back).classes_, list("0123456789"))
        with self.assertRaisesRegex(srlora.UsageError, "`rank`: `many` is neither"):
            srlora.export_peft(BUNDLE, store, self.folder / "c", rank="many")
