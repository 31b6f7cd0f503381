#!/usr/bin/env python3
"""Makes models/handwriting: a small network that has only seen printed characters, and handwritten digits to teach it.

    pip install torch==2.15.0 onnx==1.23.2 numpy pillow scikit-learn==1.9.1 matplotlib==3.11.2
    python models/recipes/handwriting.py                  # about 5 minutes on one core
    srlora pack models/handwriting/backbone.onnx -o models/handwriting/handwriting.bundle \
        --labels models/handwriting/labels.txt --sites all --rank 4 --reserve 16 --fit stretch --mean .5 --std .5

The backbone is trained on printed letters and digits, rendered here with the fonts that matplotlib ships. The photos are
scikit-learn's `load_digits` (UCI, 8 x 8, by 43 people), enlarged to 32 x 32: a domain that the backbone has never seen.
"""
import random
import shutil
import string
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

OUT = Path(__file__).resolve().parent.parent / "handwriting"
SIZE, SEED, STEPS, BATCH = 32, 7, 2400, 64
TRAIN, VAL = 12, 40                                   # photos a class that ship
CHARACTERS = string.digits + string.ascii_uppercase + "abdefghnqrt"


class Block(nn.Module):
    """Inverted residual, as in MobileNetV2: expand, depthwise, project."""
    def __init__(self, cin, cout, stride, expand=3):
        super().__init__()
        mid = cin * expand
        conv = lambda i, o, k, s=1, g=1: [nn.Conv2d(i, o, k, s, k // 2, groups=g, bias=False), nn.BatchNorm2d(o)]
        self.body = nn.Sequential(*conv(cin, mid, 1), nn.ReLU6(), *conv(mid, mid, 3, stride, mid), nn.ReLU6(), *conv(mid, cout, 1))
        self.same = stride == 1 and cin == cout

    def forward(self, x):
        return x + self.body(x) if self.same else self.body(x)


class Network(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.blocks = nn.Sequential(Block(16, 16, 1), Block(16, 24, 2), Block(24, 24, 1), Block(24, 40, 2), Block(40, 40, 1))
        self.last = nn.Sequential(nn.Conv2d(40, 96, 1, bias=False), nn.BatchNorm2d(96), nn.ReLU6())
        self.classifier = nn.Linear(96, classes)

    def forward(self, x):
        return self.classifier(self.last(self.blocks(self.stem(x))).mean((2, 3)))


def fonts():
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    keep = ("DejaVuSans", "DejaVuSerif", "STIXGeneral", "cmr10", "cmss10", "cmtt10", "cmb10")
    return sorted(p for p in folder.glob("*.ttf") if p.stem.startswith(keep) and "Display" not in p.stem)


def printed(draw_from, rng):
    """One printed character, upright within 8 degrees, dark on light or light on dark, in any two colours."""
    label = rng.randrange(len(CHARACTERS))
    font = ImageFont.truetype(str(rng.choice(draw_from)), rng.randint(44, 60))
    ink = Image.new("L", (96, 96))
    ImageDraw.Draw(ink).text((48, 48), CHARACTERS[label], 255, font, anchor="mm")
    ink = ink.rotate(rng.uniform(-8, 8), Image.BILINEAR, translate=(rng.randint(-6, 6), rng.randint(-6, 6)))
    ink = np.asarray(ink.resize((SIZE, SIZE), Image.BOX), np.float32)[..., None] / 255
    paper, pen = (np.array([rng.random() for _ in range(3)], np.float32) for _ in range(2))
    while abs(paper.mean() - pen.mean()) < .35:
        paper, pen = (np.array([rng.random() for _ in range(3)], np.float32) for _ in range(2))
    noise = np.random.default_rng(rng.randrange(1 << 30)).normal(0, .03, (SIZE, SIZE, 3)).astype(np.float32)
    return np.clip(paper * (1 - ink) + pen * ink + noise, 0, 1).transpose(2, 0, 1), label


def pretrain():
    torch.manual_seed(SEED), torch.set_num_threads(1)
    rng, faces = random.Random(SEED), fonts()
    made = [printed(faces, rng) for _ in range(12000)]
    x = torch.from_numpy(np.stack([m[0] for m in made])) * 2 - 1
    y = torch.tensor([m[1] for m in made])
    net = Network(len(CHARACTERS)).train()
    optimizer = torch.optim.AdamW(net.parameters(), 4e-3, weight_decay=.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, STEPS)
    order = torch.Generator().manual_seed(SEED)
    for step in range(STEPS):
        pick = torch.randint(0, 11000, (BATCH,), generator=order)
        loss = F.cross_entropy(net(x[pick]), y[pick])
        optimizer.zero_grad(), loss.backward(), optimizer.step(), schedule.step()
        if (step + 1) % 400 == 0:
            net.eval()
            with torch.no_grad():
                right = (net(x[11000:]).argmax(1) == y[11000:]).float().mean().item()
            net.train()
            print(f"step {step + 1}: loss {loss.item():.3f}, printed characters not trained on {right:.3f}")
    return net.eval()


def export(net):
    OUT.mkdir(exist_ok=True)
    torch.onnx.export(net, torch.zeros(1, 3, SIZE, SIZE), str(OUT / "backbone.onnx"), input_names=["image"], output_names=["logits"],
                      dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}}, opset_version=17, dynamo=False)
    (OUT / "labels.txt").write_text("\n".join(CHARACTERS) + "\n")


def photos():
    """Digits as dark ink on light paper, enlarged with bicubic interpolation."""
    digits = load_digits()
    rng = random.Random(SEED)
    for part in ("train", "val"):
        shutil.rmtree(OUT / part, ignore_errors=True)
    for digit in range(10):
        own = [i for i, label in enumerate(digits.target) if label == digit]
        rng.shuffle(own)
        for nth, index in enumerate(own[:TRAIN + VAL]):
            folder = OUT / ("train" if nth < TRAIN else "val") / str(digit)
            folder.mkdir(parents=True, exist_ok=True)
            ink = Image.fromarray((255 - digits.images[index] * 255 / 16).astype(np.uint8))
            ink.resize((SIZE, SIZE), Image.BICUBIC).save(folder / f"{index:04}.png", optimize=True)


if __name__ == "__main__":
    network = pretrain()
    export(network)
    photos()
    print(f"{sum(p.numel() for p in network.parameters())} parameters; now run the `srlora pack` command above")
