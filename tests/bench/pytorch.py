#!/usr/bin/env python3
"""What PyTorch and PEFT come to on the same sites: what pairs are measured against.

    python tests/bench/pytorch.py METHOD MODEL.onnx --features NODE --train DIR --val DIR --sites Conv --rank 2 --lr 1e-2 ...

METHOD is one of the peer's (lora, pissa, dora, head), rslora or loraplus (PEFT's own), or full: every weight of the sites that is not
a shortcut's learns, and nothing else but the head. The flags are those of the peer, `peft_anchor.py`, which is looked for beside the
assets ($SRLORA_ASSETS/../reference). Needs torch and peft.
"""
import functools, os, sys
from pathlib import Path

METHODS = ("lora", "pissa", "dora", "head", "rslora", "loraplus", "full")
if len(sys.argv) < 3 or sys.argv[1] not in METHODS or "SRLORA_ASSETS" not in os.environ:
    sys.exit(__doc__)
METHOD = sys.argv.pop(1)
sys.path.insert(0, str(Path(os.environ["SRLORA_ASSETS"]).parent / "reference"))
import peft_anchor
import torch

# LoRA+'s ratio of B's rate to A's, as its authors advise.
RATIO = 16


def full(net, _args, names):
    """The network, the weights that learn, and the head's."""
    net.requires_grad_(False)
    is_site = lambda name, p: name.endswith(".weight") and p.ndim in (2, 4) and p.shape[2:] != (1, 1) and any(n in name for n in names)
    sites = [p.requires_grad_(True) for name, p in net.named_parameters() if is_site(name, p)]
    net.head.requires_grad_(True)
    net.eval()
    print(f"{len(sites)} sites learn", file=sys.stderr)
    return net, sites, list(net.head.parameters())


def loraplus(adapt, net, args, names):
    """Pairs as LoRA's; their optimizer has the rates that PEFT gives A and B."""
    from peft.optimizers import create_loraplus_optimizer

    net, body, head = adapt(net, args, names)
    plus = create_loraplus_optimizer(model=net, optimizer_cls=torch.optim.AdamW, lr=args.lr, loraplus_lr_ratio=RATIO)
    rates = {id(p): group["lr"] for group in plus.param_groups for p in group["params"]}
    peft_anchor.torch.optim.AdamW = functools.partial(with_rates, rates, {id(p) for p in head}, torch.optim.AdamW)
    return net, body, head


def with_rates(rates, head, optimizer, groups, **settings):
    """The peer's optimizer, each pair at its own rate."""
    single = [dict(group, params=[p], base=group["base"] if id(p) in head else rates[id(p)]) for group in groups for p in group["params"]]
    return optimizer(single, **settings)


if __name__ == "__main__":
    if METHOD == "full":
        peft_anchor.adapt = full
    elif METHOD == "loraplus":
        peft_anchor.adapt = functools.partial(loraplus, peft_anchor.adapt)
    elif METHOD == "rslora":
        import peft

        peft.LoraConfig = functools.partial(peft.LoraConfig, use_rslora=True)
    peers = {"rslora": "lora", "loraplus": "lora"}
    peft_anchor.main([*sys.argv[1:], "--method", peers.get(METHOD, METHOD)])
