#!/usr/bin/env python3
"""Full fine-tuning of the convolutions that pairs stand beside, and of the head: what a low rank is measured against.

    python tests/bench/full.py MODEL.onnx --features NODE --train DIR --val DIR --method full --sites Conv --lr 3e-4 ...

The flags are those of the peer, `peft_anchor.py`, which is looked for beside the assets ($SRLORA_ASSETS/../reference). Its own full
fine-tuning moves every weight; here only those of 3 x 3 convolutions whose names hold one of --sites move. Needs torch.
"""
import os, sys
from pathlib import Path

if len(sys.argv) < 2 or "SRLORA_ASSETS" not in os.environ:
    sys.exit(__doc__)
sys.path.insert(0, str(Path(os.environ["SRLORA_ASSETS"]).parent / "reference"))
import peft_anchor


def adapt(net, _args, names):
    """The network, the weights that learn, and the head's."""
    net.requires_grad_(False)
    is_site = lambda name, p: name.endswith(".weight") and p.ndim == 4 and p.shape[2:] == (3, 3) and any(n in name for n in names)
    sites = [p.requires_grad_(True) for name, p in net.named_parameters() if is_site(name, p)]
    net.head.requires_grad_(True)
    net.eval()
    print(f"{len(sites)} convolutions learn", file=sys.stderr)
    return net, sites, list(net.head.parameters())


if __name__ == "__main__":
    peft_anchor.adapt = adapt
    peft_anchor.main()
