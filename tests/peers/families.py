#!/usr/bin/env python3
"""Which families of networks `srlora pack` takes as their exporters write them, and whether they learn.

    python tests/peers/families.py --program target/release/srlora --gradients target/release/examples/gradients --work DIR
        [--write docs/families.md] [FAMILY...]

Without FAMILY: all whose library is installed. --write puts all that is found in DIR into the page's table.

Every network has the size that its library gives it and random weights. It is exported at the exporter's defaults, packed at this
program's (rank 2, to be quick), and takes two steps. Then the gradient of every site is held against that of the library that made the
network: dL/dB = dL/dW A^T, where dL/dW is by autograd in PyTorch or TensorFlow. Exports are kept in DIR.

    pip install torch==2.15.0 torchvision==0.29.2 timm==1.0.31 onnx==1.23.2 onnxscript onnxruntime==1.32.0 pillow safetensors

    pip install tensorflow-cpu==2.21.0 tf2onnx==1.17.0 safetensors pillow                (in an environment of its own)
"""
import argparse
import datetime
import json
import logging
import os
import subprocess
import sys
import warnings
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load_file

# family: (library, name, side)
FAMILIES = {
    "AlexNet": ("torchvision", "alexnet", 224),
    "VGG": ("torchvision", "vgg11_bn", 224),
    "SqueezeNet": ("torchvision", "squeezenet1_1", 224),
    "GoogLeNet": ("torchvision", "googlenet", 224),
    "Inception v3": ("torchvision", "inception_v3", 299),
    "ResNet": ("torchvision", "resnet18", 224),
    "ResNeXt": ("torchvision", "resnext50_32x4d", 224),
    "DenseNet": ("torchvision", "densenet121", 224),
    "MobileNetV2": ("torchvision", "mobilenet_v2", 224),
    "MobileNetV3": ("torchvision", "mobilenet_v3_small", 224),
    "MNASNet": ("torchvision", "mnasnet0_5", 224),
    "ShuffleNetV2": ("torchvision", "shufflenet_v2_x0_5", 224),
    "EfficientNet": ("torchvision", "efficientnet_b0", 224),
    "RegNet": ("torchvision", "regnet_y_400mf", 224),
    "ConvNeXt": ("torchvision", "convnext_tiny", 224),
    "Swin": ("torchvision", "swin_t", 224),
    "SwinV2": ("torchvision", "swin_v2_t", 256),
    "MaxViT": ("torchvision", "maxvit_t", 224),
    "ViT": ("timm", "vit_tiny_patch16_224", 224),
    "DeiT": ("timm", "deit_tiny_distilled_patch16_224", 224),
    "DINOv2": ("timm", "vit_small_patch14_dinov2", 518),
    "MobileNetV4": ("timm", "mobilenetv4_conv_small", 224),
    "EfficientNetV2": ("timm", "tf_efficientnetv2_b0", 224),
    "GhostNet": ("timm", "ghostnet_100", 224),
    "RepVGG": ("timm", "repvgg_a0", 224),
    "MobileOne": ("timm", "mobileone_s0", 224),
    "FastViT": ("timm", "fastvit_t8", 256),
    "MobileViT": ("timm", "mobilevit_xxs", 256),
    "MobileViTV2": ("timm", "mobilevitv2_050", 256),
    "EdgeNeXt": ("timm", "edgenext_xx_small", 256),
    "LeViT": ("timm", "levit_128s", 224),
    "EfficientFormerV2": ("timm", "efficientformerv2_s0", 224),
    "EfficientViT": ("timm", "efficientvit_b0", 224),
    "TinyViT": ("timm", "tiny_vit_5m_224", 224),
    "RepViT": ("timm", "repvit_m0_9", 224),
    "ConvNeXtV2": ("timm", "convnextv2_atto", 224),
    "PoolFormer": ("timm", "poolformer_s12", 224),
    "MLP-Mixer": ("timm", "mixer_s32_224", 224),
    "PVTv2": ("timm", "pvt_v2_b0", 224),
    "CSPNet": ("timm", "cspresnet50", 256),
    "MobileNet (Keras)": ("keras", "MobileNet", 224),
    "MobileNetV2 (Keras)": ("keras", "MobileNetV2", 224),
    "MobileNetV3 (Keras)": ("keras", "MobileNetV3Small", 224),
    "EfficientNet (Keras)": ("keras", "EfficientNetB0", 224),
    "EfficientNetV2 (Keras)": ("keras", "EfficientNetV2B0", 224),
    "ResNet (Keras)": ("keras", "ResNet50", 224),
    "NASNet (Keras)": ("keras", "NASNetMobile", 224),
    "Xception (Keras)": ("keras", "Xception", 299),
}
LIBRARIES = {"torchvision": ("torch", "torchvision"), "timm": ("torch", "timm"), "keras": ("keras", "tensorflow-cpu", "tf2onnx")}
EXPORTERS = {"torchvision": ("legacy", "dynamo"), "timm": ("legacy", "dynamo"), "keras": ("tf2onnx",)}
# The page's heading that the table stands under.
MARK = "## The families"
# Of a gradient, relative to the largest value of its site: rounding in single precision, over networks of up to 150 layers.
BOUND = 1e-3


# ----------------------------------------------------------------------------------------------------------- networks
def torch_network(library, name):
    import torch
    torch.manual_seed(0)
    if library == "timm":
        import timm
        net = timm.create_model(name, pretrained=False)
    else:
        import torchvision
        more = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
        net = torchvision.models.get_model(name, weights=None, **more)
    return lively(net)


def lively(net):
    """Statistics and affine parameters that are not the identity, as in a trained network."""
    from torch import nn
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.running_mean, std=.2)
            nn.init.uniform_(module.running_var, .5, 1.5)
        if isinstance(getattr(module, "weight", None), nn.Parameter) and module.weight.ndim == 1:
            nn.init.uniform_(module.weight, .6, 1.4)
            if getattr(module, "bias", None) is not None:
                nn.init.normal_(module.bias, std=.2)
    return net.eval()


def keras_network(name):
    import keras
    keras.utils.set_random_seed(0)
    return getattr(keras.applications, name)(weights=None)


def export(net, exporter, side, path):
    if exporter == "tf2onnx":
        saved = path.with_name("saved")
        net.export(str(saved), verbose=False)
        subprocess.run([sys.executable, "-m", "tf2onnx.convert", "--saved-model", saved, "--output", path], check=True, capture_output=True)
        return
    import torch
    torch.onnx.export(net, (torch.zeros(1, 3, side, side),), str(path), dynamo=exporter == "dynamo", verbose=False)


# ---------------------------------------------------------------------------------------------------------- gradients
def torch_gradients(net, image, found):
    """(weight, its gradient) of every parameter that is a matrix, where the loss is taken on the module's tensor that equals what
    `found` has as features."""
    import torch
    net, seen = net.double(), []
    def see(_module, inputs, outputs):
        seen.extend(t for t in (*inputs, outputs) if isinstance(t, torch.Tensor) and t.requires_grad)
    hooks = [module.register_forward_hook(see) for module in net.modules()]
    seen.append(net(torch.from_numpy(image).double()[None]))
    for hook in hooks:
        hook.remove()
    size = found["features"].size
    # A head on a map of features reads their mean.
    pooled = [t.mean((2, 3)) for t in seen if t.ndim == 4 and t.shape[1] == size]
    features = nearest([(t, t.detach().numpy()) for t in reversed(pooled + seen) if t.numel() == size], found["features"])
    upstream = torch.from_numpy(slope(features.detach().numpy().ravel(), found)).reshape(features.shape)
    parameters = [p for p in net.parameters() if p.ndim > 1]
    gradients = torch.autograd.grad(features, parameters, upstream, allow_unused=True)
    return [(p.detach().flatten(1).numpy(), g.flatten(1).numpy()) for p, g in zip(parameters, gradients) if g is not None]


def keras_gradients(single, image, found):
    import keras
    import tensorflow as tf
    keras.config.set_floatx("float64")
    net = keras.models.clone_model(single, clone_function=in_double)
    net.set_weights(single.get_weights())
    tensors = [layer.output for layer in net.layers if not isinstance(layer.output, list)]
    every = keras.Model(net.input, tensors)
    with tf.GradientTape() as tape:
        made = every(tf.constant(image.transpose(1, 2, 0)[None], tf.float64), training=False)
        size = found["features"].size
        features = nearest([(t, t.numpy()) for t in reversed(made) if np.prod(t.shape) == size], found["features"])
        upstream = tf.constant(slope(features.numpy().ravel(), found).reshape(features.shape), features.dtype)
        loss = tf.reduce_sum(features * upstream)
    kernels = [w for w in net.trainable_weights if len(w.shape) > 1]
    flat = lambda t: (np.moveaxis(t, (3, 2), (0, 1)) if t.ndim == 4 else t.T).reshape(t.shape[-1], -1)
    gradients = tape.gradient(loss, [w.value for w in kernels])
    keras.config.set_floatx("float32")
    return [(flat(w.numpy()), flat(g.numpy())) for w, g in zip(kernels, gradients) if g is not None]


def in_double(layer):
    config = layer.get_config()
    return layer.__class__.from_config(config | ({"dtype": "float64"} if "dtype" in config else {}))


def nearest(tensors, features):
    """The tensor whose values the features are."""
    scale = np.abs(features).max()
    far = lambda pair: np.abs(np.sort(pair[1].ravel()) - np.sort(features)).max() / scale
    best = min(tensors, key=far, default=None)
    if best is None or far(best) > 1e-3:
        raise ValueError("no tensor of the network is what the features are")
    return best[0]


def slope(features, found):
    """The gradient of the cross-entropy of class 0 in the features."""
    logits = found["w"].astype(np.float64) @ features + found["b"]
    p = np.exp(logits - logits.max())
    p /= p.sum()
    p[0] -= 1
    return found["w"].T.astype(np.float64) @ p


def scales(weight, other):
    """s with weight = diag(s) other, or none."""
    if weight.shape != other.shape:
        return None
    weight, other = weight.astype(np.float64), other.astype(np.float64)
    s = (weight * other).sum(1) / np.maximum((other * other).sum(1), 1e-30)
    return s if np.abs(weight - s[:, None] * other).max() <= 1e-4 * np.abs(weight).max() else None


def check_gradients(found, gradients):
    """The largest error of a site, how many sites were compared, and those whose weight is no parameter."""
    worst, compared, unknown = 0., 0, []
    for site in sorted(key[:-7] for key in found if key.endswith("/weight")):
        weight, a, b_t = (found[f"{site}/{part}"] for part in ("weight", "a", "b"))
        mine = [(s, g) for w, g in gradients if (s := scales(weight, w)) is not None]
        if len(mine) != 1:
            unknown.append(site)
            continue
        (s, g), = mine
        expected = (g / s[:, None]) @ a.T.astype(np.float64)
        largest = np.abs(expected).max()
        if not largest > 1e-30:  # a saturated loss tells nothing
            unknown.append(site)
            continue
        worst = max(worst, float(np.nan_to_num(np.abs(expected.T - b_t).max() / largest, nan=np.inf)))
        compared += 1
    return worst, compared, unknown


# --------------------------------------------------------------------------------------------------------------- runs
def photos(work):
    random = np.random.default_rng(0)
    for label in ("dots", "lines"):
        for index in range(2):
            path = work / "photos" / label / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 255, (64, 64, 3), np.uint8)).save(path)
    return work / "photos"


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    errors = [line for line in done.stderr.splitlines() if not line.startswith(("warning: ", "note: "))]
    return done.returncode == 0, done.stdout, " ".join(errors)


def one(arguments, family, exporter, place):
    library, name, side = FAMILIES[family]
    model, bundle, image = place / "model.onnx", place / "model.bundle", place / "image.f32"
    build = (lambda: keras_network(name)) if library == "keras" else (lambda: torch_network(library, name))
    row = dict(family=family, library=library, network=name, exporter=exporter)
    if not (place / "whole").exists():
        try:
            export(build(), exporter, side, model)
        except Exception as error:
            return row | dict(step="export", error=str(error).splitlines()[0])
        (place / "whole").touch()
    bundle.unlink(missing_ok=True)
    # A saved model of Keras's leaves the size open.
    size = ["--input", f"{side}x{side}"] if library == "keras" else []
    done, out, error = run(arguments.program, "pack", model, "-o", bundle, "--rank", 2, "--preset", "unit", *size, "--json")
    if not done:
        return row | dict(step="pack", error=error)
    report = json.loads(out.splitlines()[-1])
    row |= dict(sites=len(report["sites"]), features=report["features"])
    subprocess.run(["rm", "-rf", place / "store"])
    done, _, error = run(arguments.program, "train", bundle, "--data", photos(arguments.work), "-o", place / "store", "--steps", 2)
    if not done:
        return row | dict(step="train", error=error)
    values = np.random.default_rng(0).standard_normal((3, side, side)).astype(np.float32)
    values.tofile(image)
    done, _, error = run(arguments.gradients, bundle, image, place / "gradients.safetensors")
    if not done:
        return row | dict(step="gradients", error=error)
    found = load_file(place / "gradients.safetensors")
    try:
        gradients = (keras_gradients if library == "keras" else torch_gradients)(build(), values, found)
        worst, compared, unknown = check_gradients(found, gradients)
    except (TypeError, ValueError) as error:
        return row | dict(step="gradients", error=str(error).splitlines()[0])
    row |= dict(gradient=float(worst), compared=compared, unknown=unknown)
    wrong = worst > BOUND or 2 * compared < len(report["sites"])
    return row | (dict(step="gradients", error=f"{worst:.1e} off, {compared} compared") if wrong else dict(step="done"))


def table(rows):
    """A line for each network: what became of it from each exporter."""
    lines = ["| family | network | sites | from | gradients within |", "|---|---|---|---|---|"]
    for family, (library, name, _) in FAMILIES.items():
        mine = [row for row in rows if row["family"] == family]
        exporters = ", ".join(row["exporter"] for row in mine)
        done = all(row["step"] == "done" for row in mine)
        said = f"{max(row['gradient'] for row in mine):.0e}" if done else "; ".join(f"{r['exporter']}: {r['error']}" for r in mine if "error" in r)
        if mine:
            lines.append(f"| {family} | {library} `{name}` | {mine[0].get('sites', '')} | {exporters} | {said} |")
    return "\n".join(lines)


def write(page, work):
    """Puts what is found in `work` behind the page's last heading."""
    rows = [json.loads(path.read_text()) for path in sorted(work.glob("*/row.json"))]
    head, mark, _ = page.read_text().partition(MARK)
    libraries = ", ".join(sorted({library for row in rows for library in row["made_with"].split(", ")}))
    families = {row["family"] for row in rows}
    refused = {row["family"] for row in rows if row["step"] != "done"}
    said = f"{len(families) - len(refused)} of {len(families)} families, {max(row['date'] for row in rows)}. {libraries}."
    page.write_text(head + mark + "\n\n" + said + "\n\n" + table(rows) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("--program", "--gradients", "--work"):
        parser.add_argument(flag, type=Path, required=True)
    parser.add_argument("--write", type=Path)
    parser.add_argument("families", nargs="*")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    refused = 0
    for family in arguments.families or [f for f, (library, *_) in FAMILIES.items() if find_spec(library)]:
        library = FAMILIES[family][0]
        for exporter in EXPORTERS[library]:
            place = arguments.work / f"{FAMILIES[family][1]}.{exporter}"
            place.mkdir(parents=True, exist_ok=True)
            made_with = ", ".join(f"{package} {version(package)}" for package in LIBRARIES[library])
            row = one(arguments, family, exporter, place) | dict(made_with=made_with, date=str(datetime.date.today()))
            (place / "row.json").write_text(json.dumps(row))
            refused += row["step"] != "done"
            print(json.dumps(row), flush=True)
    if arguments.write:
        write(arguments.write, arguments.work)
    sys.exit(f"{refused} refused" if refused else 0)


if __name__ == "__main__":
    main()
