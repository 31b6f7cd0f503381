#!/usr/bin/env python3
"""Adapters in PyTorch and PEFT against the program that learned them.

    python tests/peers/peft_round_trip.py target/release/srlora [NETWORK ...]

Networks with random weights are exported to ONNX by both exporters of PyTorch, by the older one with batch norms folded and not. Each is
packed and learns the demo's digits, with recompositions. Then:

- PEFT loads the adapter, with warnings as errors, into the PyTorch network as it was, and says what `predict` says;
- `merge_and_unload(safe_merge=True)` changes nothing;
- the folder becomes a store again, which predicts the same;
- what PEFT saves of it (fp32, fp16, rsLoRA) is taken too, and what is not LoRA, or is of another network, is refused by name.

Needs torch, torchvision, timm, peft, onnx, onnxscript. Prints a line for each check, and ends with 1 where one fails.
"""
import json, shutil, subprocess, sys, tempfile, warnings
from pathlib import Path

import torch
import torchvision
from peft import LoraConfig, PeftModel, get_peft_model
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

DIGITS = Path(__file__).parents[2] / "models/handwriting"
SIDE = 64
# Probabilities of both programs, through networks of some twenty layers.
SAME = 1e-4
failed = []


def check(what, value, bound):
    ok = value <= bound
    print(f"{'ok  ' if ok else 'FAIL'} {what}: {value:.2e} (at most {bound:g})", flush=True)
    if not ok:
        failed.append(what)


def refuses(what, words, *command):
    run = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    ok = run.returncode != 0 and all(word in run.stderr for word in words) and "panicked" not in run.stderr
    print(f"{'ok  ' if ok else 'FAIL'} {what}: {run.stderr.strip()[:200]}", flush=True)
    if not ok:
        failed.append(what)


class Tiny(nn.Module):
    """A transformer's block on patches: qkv, MLP, LayerNorm."""

    def __init__(self, classes):
        super().__init__()
        self.patch = nn.Conv2d(3, 48, 16, 16)
        self.norm1, self.norm2 = nn.LayerNorm(48), nn.LayerNorm(48)
        self.qkv, self.proj = nn.Linear(48, 144), nn.Linear(48, 48)
        self.fc1, self.fc2 = nn.Linear(48, 96), nn.Linear(96, 48)
        self.classifier = nn.Linear(48, classes)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)
        x = x + self.proj(torch.softmax(q @ k.transpose(1, 2) / 7, -1) @ v)
        x = x + self.fc2(nn.functional.gelu(self.fc1(self.norm2(x))))
        return self.classifier(x.mean(1))


def mobilenetv4(classes):
    import timm
    return timm.create_model("mobilenetv4_conv_small", num_classes=classes)


NETWORKS = {
    "mobilenet_v2": (lambda n: torchvision.models.mobilenet_v2(num_classes=n), "last:8", "classifier.1"),
    "resnet18": (lambda n: torchvision.models.resnet18(num_classes=n), "last:5", "fc"),
    "vit": (Tiny, "all", "classifier"),
    "mobilenetv4": (mobilenetv4, "last:8", "classifier"),
}


def build(name, classes):
    torch.manual_seed(1)
    net = NETWORKS[name][0](classes)
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.3, 0.3)
        norm.momentum = 1.0
    # Statistics of something: otherwise nothing would come through so many layers.
    with torch.no_grad():
        net.train()(torch.randn(16, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2)))
    return net.eval()


def enlarge(folder):
    """The demo's digits in the network's size, so that both programs see the same pixels."""
    for split in ("train", "val"):
        for path in sorted((DIGITS / split).glob("*/*.png")):
            to = folder / split / path.parent.name / path.name
            to.parent.mkdir(parents=True, exist_ok=True)
            Image.open(path).convert("RGB").resize((SIDE, SIDE)).save(to)
    return sorted((folder / "val").glob("*/*.png"))[::40][:10]


def pixels(paths):
    images = [torch.frombuffer(bytearray(Image.open(path).tobytes()), dtype=torch.uint8).view(SIDE, SIDE, 3) for path in paths]
    return (torch.stack(images).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5


def run(*command):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout


def predicted(program, bundle, store, paths, classes):
    lines = run(program, "predict", bundle, "--store", store, "--top", len(classes), "--json", *paths).splitlines()
    rows = [{guess["label"]: guess["probability"] for guess in json.loads(line)["top"]} for line in lines]
    return torch.tensor([[row[name] for name in classes] for row in rows])


def apart(logits, probabilities):
    return (torch.softmax(logits.float(), 1) - probabilities).abs().max().item()


@torch.no_grad()
def adapted(net, folder, x):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = PeftModel.from_pretrained(net, folder).eval()
    logits = model(x)
    return model, logits


def export(net, path, exporter):
    x = torch.zeros(1, 3, SIDE, SIDE)
    settings = {"input_names": ["image"], "output_names": ["logits"]}
    if exporter == "dynamo":
        torch.onnx.export(net, (x,), path, dynamo=True, external_data=False, verbose=False, **settings)
        return
    folds = exporter == "legacy"
    mode = torch.onnx.TrainingMode.EVAL if folds else torch.onnx.TrainingMode.PRESERVE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (x,), path, dynamo=False, opset_version=17, training=mode, do_constant_folding=folds, **settings)


def round_trip(program, name, exporter, work, data, paths):
    title = f"{name}, {exporter}"
    _, sites, head = NETWORKS[name]
    onnx, bundle, store, weights = work / "m.onnx", work / "m.bundle", work / "m.store", work / "w.safetensors"
    export(build(name, 7), onnx, exporter)
    run(program, "pack", onnx, "-o", bundle, "--rank", 4, "--sites", sites, "--mean", ".5", "--std", ".5", "--fit", "stretch")
    run(program, "train", bundle, "--data", data / "train", "-o", store, "--steps", 24, "--interval", 8, "--lr", "1e-2", "--replay", 0)
    base = build(name, 10)
    whole = {key: value for key, value in build(name, 7).state_dict().items() if value.is_floating_point()}
    save_file(whole, weights)
    base.load_state_dict({key: value for key, value in whole.items() if not key.startswith(head)}, strict=False)
    naming = work / "head.toml"
    naming.write_text(f'head = "{head}"\n')
    report = json.loads(run(program, "export", bundle, "--store", store, "--peft", work / "peft", "--torch", weights, "--map", naming, "--json"))
    (work / "report.json").write_text(json.dumps(report))
    classes, x = report["classes"], pixels(paths)
    own = predicted(program, bundle, store, paths, classes)
    model, logits = adapted(base, work / "peft", x)
    with torch.no_grad(), model.disable_adapter():
        change = apart(model(x), own)
    if change < 30 * SAME:
        failed.append(f"{title}: pairs that change nothing show nothing")
    unfolded = sum(site["unfolded"] for site in report["sites"])
    what = f"{len(report['sites'])} modules, {unfolded} batch norms undone, without them {change:.3f}"
    check(f"{title}: PEFT against predict, {what}", apart(logits, own), SAME)
    merged = model.merge_and_unload(safe_merge=True)
    with torch.no_grad():
        check(f"{title}: merged in PyTorch", apart(merged(x), own), SAME)
    run(program, "import", bundle, "--peft", work / "peft", "-o", work / "back.store", "--torch", weights, "--map", naming)
    back = predicted(program, bundle, work / "back.store", paths, classes)
    # More pairs than the bundle's rank go into the delta, which rounds them.
    check(f"{title}: exported and imported", (back - own).abs().max().item(), 2e-2)
    return work, bundle, weights, naming, head


def foreign(program, work, bundle, weights, naming, head, paths):
    """What PEFT makes itself: other kinds, and what is refused."""
    torch.manual_seed(3)
    labels = work / "labels"
    labels.write_text("".join(f"class {n}\n" for n in range(5)))
    modules = [site["module"] for site in json.loads((work / "report.json").read_text())["sites"]]

    def trained(folder, **settings):
        base = build("resnet18", 5)
        whole = load_file(weights)
        base.load_state_dict({key: value for key, value in whole.items() if not key.startswith(head)}, strict=False)
        settings = {"r": 3, "lora_alpha": 12, "target_modules": modules, "modules_to_save": [head], **settings}
        model = get_peft_model(base, LoraConfig(**settings)).eval()
        for key, value in model.named_parameters():
            if value.requires_grad:
                nn.init.normal_(value, std=0.05)
        model.save_pretrained(folder)
        with torch.no_grad():
            return model(pixels(paths))

    def taken(what, bound, change=None, **settings):
        folder, store = work / what, work / f"{what}.store"
        logits = trained(folder, **settings)
        if change:
            tensors = load_file(folder / "adapter_model.safetensors")
            save_file({key: change(value) for key, value in tensors.items()}, folder / "adapter_model.safetensors")
        run(program, "import", bundle, "--peft", folder, "-o", store, "--torch", weights, "--map", naming, "--labels", labels)
        own = predicted(program, bundle, store, paths, [f"class {n}" for n in range(5)])
        check(f"{what} of PEFT", apart(logits, own), bound)

    taken("lora", SAME)
    taken("rslora", SAME, use_rslora=True)
    taken("patterns", SAME, rank_pattern={modules[0]: 2}, alpha_pattern={modules[1]: 5})
    taken("half", 5e-3, change=lambda value: value.half())
    taken("bfloat", 5e-2, change=lambda value: value.bfloat16())
    taken("more-pairs-than-rank", 2e-2, r=9)
    arguments = lambda folder: (program, "import", bundle, "--peft", folder, "-o", work / "none.store", "--torch", weights, "--map", naming, "--labels", labels)
    for what, settings, words in (("dora", {"use_dora": True}, ["use_dora"]), ("bias", {"bias": "lora_only"}, ["bias"])):
        trained(work / what, **settings)
        refuses(what, words, *arguments(work / what))
    good = load_file(work / "lora/adapter_model.safetensors")
    key = f"base_model.model.{modules[0]}.lora_A.weight"

    def damaged(what, words, tensors=None, config=None, raw=None):
        folder = work / what
        shutil.copytree(work / "lora", folder)
        if tensors:
            save_file(tensors, folder / "adapter_model.safetensors")
        if raw is not None:
            (folder / "adapter_model.safetensors").write_bytes(raw)
        if config is not None:
            (folder / "adapter_config.json").write_text(config)
        refuses(what, words, *arguments(folder))

    damaged("foreign-key", ["no site"], {**good, key.replace(modules[0], "somewhere.else"): good[key].clone()})
    damaged("unprefixed", ["none of PEFT's"], {"x": good[key]})
    damaged("wrong-shape", ["do not fit"], {**good, key: good[key][:, :1].contiguous()})
    damaged("half-a-pair", ["alone"], {k: v for k, v in good.items() if k != key})
    damaged("not-a-number", ["not finite"], {**good, key: good[key] * float("nan")})
    damaged("huge-header", ["header"], raw=(2**31).to_bytes(8, "little") + b"{}")
    damaged("truncated", ["damaged"], raw=(work / "lora/adapter_model.safetensors").read_bytes()[:-9])
    damaged("empty", ["safetensors"], raw=b"")
    damaged("no-json", ["configuration"], config="{")
    own = json.loads((work / "lora/adapter_config.json").read_text())
    damaged("pissa", ["`pissa`", "path_initial_model"], config=json.dumps({**own, "init_lora_weights": "pissa"}))
    damaged("huge-alpha", ["cannot be meant"], config=json.dumps({**own, "lora_alpha": 1e30, "alpha_pattern": {}}))
    damaged("prompt", ["PROMPT_TUNING"], config=json.dumps({"peft_type": "PROMPT_TUNING"}))
    damaged("path-in-a-name", ["no site"], {**good, "base_model.model.../../etc.lora_A.weight": good[key].clone()})
    refuses("a store that is there", ["already there"], program, "import", bundle, "--peft", work / "lora", "-o", work / "lora.store", "--labels", labels)
    assert not (work / "none.store").exists(), "something was written"


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    program, wanted = Path(sys.argv[1]).resolve(), sys.argv[2:] or list(NETWORKS)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        paths = enlarge(folder / "data")
        for name in wanted:
            for exporter in ("legacy", "legacy, batch norms kept", "dynamo"):
                work = folder / f"{name} {exporter}"
                work.mkdir()
                try:
                    kept = round_trip(program, name, exporter, work, folder / "data", paths)
                except subprocess.CalledProcessError as error:
                    print(f"FAIL {work.name}: {error.cmd[1]}: {error.stderr.strip()[-300:]}", flush=True)
                    failed.append(work.name)
                    continue
                if (name, exporter) == ("resnet18", "legacy"):
                    foreign(program, *kept, paths)
    print(f"{len(failed)} failed" if failed else "all as they should be")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
