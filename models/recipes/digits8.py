#!/usr/bin/env python3
"""Makes models/digits8: a network of a microcontroller's size that has only seen printed characters, and handwritten digits.

    pip install torch==2.15.0 numpy pillow scikit-learn==1.9.1 matplotlib==3.11.2 safetensors==0.8.0
    python models/recipes/digits8.py                      # about 2 minutes on one core

Three 3 x 3 convolutions on 8 x 8 pixels of ink, 0 to 16. The last two are sites: their weights are int8, one scale a row, and
their directions are those of what they read of printed characters, in falling order of energy: the eigenvectors of its second
moment, each times the fourth root of (mean energy / its energy). Digits are scikit-learn's `load_digits`, the same photos
as models/handwriting's, before they are enlarged.
"""
import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from safetensors.numpy import save_file
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from handwriting import CHARACTERS, fonts

HERE = Path(__file__).resolve().parent.parent
OUT, PHOTOS = HERE / "digits8", HERE / "handwriting"
SEED, STEPS, BATCH, EXAMPLES, HELD_BACK = 7, 4000, 64, 24000, 1000
CHANNELS = (8, 12, 32)                                # stem, first site, second site
PAIRS, RESERVE = (14, 8), (28, 16)                    # pairs and directions a site


class Network(nn.Module):
    def __init__(self, classes):
        super().__init__()
        sizes = [(1, CHANNELS[0], 1), (CHANNELS[0], CHANNELS[1], 2), (CHANNELS[1], CHANNELS[2], 2)]
        self.maps = nn.ModuleList(nn.Conv2d(i, o, 3, s, 1, bias=False) for i, o, s in sizes)
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for _, o, _ in sizes)
        self.classifier = nn.Linear(CHANNELS[2], classes)

    def forward(self, x):
        for conv, norm in zip(self.maps, self.norms):
            x = F.relu(norm(conv(x)))
        return self.classifier(x.mean((2, 3)))


def printed(faces, rng):
    """One printed character as the digits were taken: upright within 8 degrees, stretched to the square, ink counted in 4 x 4 cells."""
    label = rng.randrange(len(CHARACTERS))
    font = ImageFont.truetype(str(rng.choice(faces)), rng.randint(44, 60))
    ink = Image.new("L", (96, 96))
    ImageDraw.Draw(ink).text((48, 48), CHARACTERS[label], 255, font, anchor="mm")
    ink = ink.rotate(rng.uniform(-8, 8), Image.BILINEAR)
    left, top, right, bottom = ink.getbbox()
    width = max(right - left, (bottom - top) * 3 // 5)
    middle = (left + right) // 2
    box = (middle - width // 2, top, middle - width // 2 + width, bottom)
    ink = np.asarray(ink.resize((32, 32), Image.BILINEAR, box)) > 127
    return ink.reshape(8, 4, 8, 4).sum((1, 3)), label


def pretrain():
    torch.manual_seed(SEED), torch.set_num_threads(1)
    rng, faces = random.Random(SEED), fonts()
    made = [printed(faces, rng) for _ in range(EXAMPLES)]
    x = torch.from_numpy(np.stack([m[0] for m in made])).float()[:, None] / 8 - 1
    y = torch.tensor([m[1] for m in made])
    net = Network(len(CHARACTERS)).train()
    optimizer = torch.optim.AdamW(net.parameters(), 1e-2, weight_decay=.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, STEPS)
    order = torch.Generator().manual_seed(SEED)
    for step in range(STEPS):
        pick = torch.randint(0, EXAMPLES - HELD_BACK, (BATCH,), generator=order)
        loss = F.cross_entropy(net(x[pick]), y[pick])
        optimizer.zero_grad(), loss.backward(), optimizer.step(), schedule.step()
        if (step + 1) % 1000 == 0:
            net.eval()
            with torch.no_grad():
                right = (net(x[-HELD_BACK:]).argmax(1) == y[-HELD_BACK:]).float().mean().item()
            net.train()
            print(f"step {step + 1}: loss {loss.item():.3f}, printed characters not trained on {right:.3f}")
    return net.eval(), x[-HELD_BACK:]


def folded(conv, norm):
    """Weight (out x channels 3 3) and bias of the convolution with its normalization."""
    gain = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach().numpy()
    weight = conv.weight.detach().numpy().reshape(len(gain), -1) * gain[:, None]
    return weight, (norm.bias - norm.running_mean * torch.from_numpy(gain)).detach().numpy()


def directions(read, pairs, count):
    """Of patches (photos x inputs x positions): count x inputs, and the roots of the energies. The mean is that of the pairs' first."""
    read = read.double().transpose(1, 2).flatten(0, 1)
    energy, vectors = np.linalg.eigh((read.T @ read).numpy())
    energy, v = energy[::-1][:count], vectors.T[::-1][:count]
    sign = np.sign(np.take_along_axis(v, np.abs(v).argmax(1)[:, None], 1))
    level = (np.exp(np.log(energy[:pairs]).mean()) / energy) ** .25
    return (v * sign * level[:, None]).astype(np.float16), np.sqrt(energy).astype(np.float32)


def tensors(net, x):
    made = {}
    for nth, name in enumerate(["stem", "first", "second"]):
        weight, bias = folded(net.maps[nth], net.norms[nth])
        scales = (np.abs(weight).max(1) / 127).astype(np.float32)
        codes = np.clip(np.rint(weight / scales[:, None]), -127, 127).astype(np.int8)
        made |= {f"{name}.codes": codes, f"{name}.scales": scales, f"{name}.bias": bias.astype(np.float32)}
        read = F.unfold(x, 3, padding=1, stride=net.maps[nth].stride)
        if nth > 0:
            v, sigma = directions(read, PAIRS[nth - 1], RESERVE[nth - 1])
            made |= {f"{name}.v": v, f"{name}.sigma": sigma}
        deployed = torch.from_numpy(codes * scales[:, None])
        side = round(read.shape[2] ** .5)
        x = F.relu(deployed @ read + torch.from_numpy(bias)[:, None]).unflatten(2, (side, side))
    return {key: np.ascontiguousarray(value) for key, value in made.items()}


def digits():
    """Per photo a byte of label and 64 of ink: first those to learn from, digit after digit in turn, then those held back."""
    source, rows = load_digits(), []
    for part in ("train", "val"):
        own = [sorted(int(p.stem) for p in (PHOTOS / part / str(digit)).glob("*.png")) for digit in range(10)]
        rows += [[digit, *source.images[index].astype(np.uint8).ravel()] for turn in zip(*own) for digit, index in enumerate(turn)]
    return bytes(np.array(rows, np.uint8))


if __name__ == "__main__":
    network, characters = pretrain()
    OUT.mkdir(exist_ok=True)
    save_file(tensors(network, characters), OUT / "network.safetensors")
    (OUT / "digits.bin").write_bytes(digits())
