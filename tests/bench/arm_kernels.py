#!/usr/bin/env python3
"""What the inner loops of products cost on ARM: predicted by LLVM's scheduling models, and counted in an emulator.

    python tests/bench/arm_kernels.py --tract OUT64 --tract32 OUT32 [--timings cortex_a53.txt] [--target-dir DIR] [--llvm 22]

OUT64 and OUT32 are where tract-linalg's build script has put its object files, of any build for aarch64 and for armv7:
target/aarch64-unknown-linux-gnu/*/build/tract-linalg-*/out. The products of `tests/bench/arm-kernels` are built for both (cross
compilers and Rust's targets have to be there), and run in QEMU's user mode with the plugin `count.c`. What a product takes is the
difference of two runs that multiply once and three times, halved: instructions, and how often each block of them ran. llvm-mca says
how many cycles a block takes when it is repeated; summed over the blocks, with how often they ran, that predicts a whole product.
The block that most of the work is in is the inner loop. Prints tables in Markdown. Nothing here is a time of a board, but what
--timings prints: tract-linalg's own measurements, a file of its source (src/arm64/cortex_a53.txt), as nanoseconds a multiply-add.
"""
import argparse, os, re, subprocess, sys, tempfile
from collections import Counter
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent / "arm-kernels"
# Products of MobileNetV2, MobileViT and ResNet-20: W is M x K, and there are N pixels.
SHAPES = [(960, 160, 49), (160, 960, 49), (320, 960, 49), (64, 576, 256), (576, 96, 196), (64, 384, 196), (16, 144, 1024), (8, 960, 49)]
WAYS = ["forward", "backward", "gradient"]
AARCH64 = {"name": "aarch64", "triple": "aarch64-unknown-linux-gnu", "libc": "aarch64-linux-gnu", "cpu": "cortex-a53",
           "flags": "-C relocation-model=static", "mca": {
               "A53": ["-mcpu=cortex-a53"], "A55": ["-mcpu=cortex-a55"], "A72": ["-mcpu=cortex-a72"], "A76": ["-mcpu=neoverse-n1"],
               "A76, 4 wide": ["-mcpu=neoverse-n1", "-dispatch=4"]}}
# LLVM takes the model of A57 for A72. For A76 it takes that, too; N1 is the same core for servers. Its model hands on three operations
# a cycle; the core decodes four instructions. There is no model of the 32-bit state of what is in order (A7, A53).
ARMV7 = {"name": "armv7", "triple": "armv7-unknown-linux-gnueabihf", "libc": "arm-linux-gnueabihf", "cpu": "cortex-a7",
         "flags": "-C relocation-model=static -C target-cpu=cortex-a7", "mca": {"A72": ["-mcpu=cortex-a57"]}}
LINE = re.compile(r"^\s*([0-9a-f]+):\s+(\S.*?)\s*(?://.*|@.*|;.*)?$")


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def disassembled(arch, llvm, file, start=None, stop=None):
    """(address, instruction) of each line."""
    span = [] if start is None else [f"--start-address={start}", f"--stop-address={stop}"]
    attributes = ["--mattr=+neon,+vfp4,+hwdiv-arm"] if arch == "armv7" else []
    text = run(f"llvm-objdump-{llvm}", "-d", "--no-show-raw-insn", *attributes, *span, file)
    lines = (LINE.match(line) for line in text.splitlines())
    return [(int(line[1], 16), re.sub(r"\s+", " ", line[2])) for line in lines if line]


def multiply_adds(instruction):
    """Multiply-adds of one instruction."""
    name, _, operands = instruction.partition(" ")
    if name in ("fmla", "fmadd"):
        return {"4s": 4, "2s": 2, "8h": 8}.get(operands.split(",")[0].partition(".")[2], 1)
    if name in ("vfma.f32", "vmla.f32"):
        return {"q": 4, "d": 2, "s": 1}[operands[0]]
    return 0


def inner_loop(lines):
    """The loop, of those without a loop in them, that multiplies and adds most."""
    at = {address: index for index, (address, _) in enumerate(lines)}
    loops = []
    for index, (address, instruction) in enumerate(lines):
        target = re.search(r"^(?:b\.?\w*|cbnz|tbnz)\s.*?0x([0-9a-f]+)", instruction)
        if target and int(target[1], 16) <= address and int(target[1], 16) in at:
            loops.append((at[int(target[1], 16)], index))
    inner = [a for a in loops if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
    bodies = [[instruction for _, instruction in lines[first:last + 1]] for first, last in inner]
    return max(bodies, key=lambda body: sum(map(multiply_adds, body)), default=[])


@cache
def cycles(arch, llvm, model, body):
    """Predicted cycles for each turn of the loop that `body` is, over 200 turns; None where the model lacks an instruction of it."""
    lines = [re.sub(r"^((?:b|cb|tb)\S* .*?)0x[0-9a-f]+( <.*>)?$", r"\1loop", line) for line in body]
    march = ["-march=aarch64"] if arch == "aarch64" else ["-march=arm", "-mattr=+neon,+vfp4"]
    models = (AARCH64 if arch == "aarch64" else ARMV7)["mca"]
    done = subprocess.run([f"llvm-mca-{llvm}", *march, *models[model], "-iterations=200", "-instruction-info=0", "-resource-pressure=0"],
                          input="loop:\n" + "\n".join(lines) + "\n", capture_output=True, text=True)
    found = re.search(r"Total Cycles:\s+(\d+)", done.stdout)
    return int(found[1]) / 200 if found else None


def build(arch, target_dir):
    environment = os.environ | {"CARGO_TARGET_DIR": str(target_dir), "RUSTFLAGS": arch["flags"]}
    linker = "CARGO_TARGET_" + arch["triple"].upper().replace("-", "_") + "_LINKER"
    environment.setdefault(linker, f"{arch['libc']}-gcc")
    run("cargo", "build", "--release", "--locked", "--target", arch["triple"], "--manifest-path", HERE / "Cargo.toml", env=environment)
    return Path(target_dir) / arch["triple"] / "release" / "arm-kernels"


def counted(arch, work, program, *words):
    """Instructions of a run, and how often each block of them, (address, instructions), ran."""
    emulator = "qemu-aarch64" if arch is AARCH64 else "qemu-arm"
    report = work / "report"
    run(emulator, "-cpu", arch["cpu"], "-L", f"/usr/{arch['libc']}", "-plugin", f"file={work / 'count.so'},to={report}", program, *words)
    first, *rest = report.read_text().splitlines()
    blocks = Counter()
    for line in rest:
        address, count, runs = line.split()
        blocks[int(address, 16), int(count)] += int(runs)
    return int(first.split()[1]), blocks


def product(arch, work, program, kernel, shape, way):
    """Instructions of one product, and how often each block of them ran, the hottest first."""
    once, few = counted(arch, work, program, kernel, *shape, way, 1)
    thrice, many = counted(arch, work, program, kernel, *shape, way, 3)
    runs = {block: (many[block] - few[block]) / 2 for block in many if many[block] > few[block]}
    return (thrice - once) / 2, dict(sorted(runs.items(), key=lambda entry: -entry[0][1] * entry[1]))


@cache
def instructions(arch, llvm, program, block):
    address, count = block
    lines = disassembled(arch, llvm, program, address, address + 4 * count)
    return tuple(instruction for _, instruction in lines)


def whole(arch, llvm, program, model, count, runs):
    """Predicted cycles of a product of `count` instructions. Blocks that are not among those reported count like the others."""
    cost = covered = 0
    for block, times in runs.items():
        each = cycles(arch["name"], llvm, model, instructions(arch["name"], llvm, program, block))
        if each is not None:
            cost, covered = cost + each * times, covered + block[1] * times
    return cost * count / covered if covered > 0.9 * count else None


def shown(value):
    return "-" if value is None else f"{value:.3f}"


def row(arch, llvm, name, body):
    """A row of the table of inner loops."""
    each = sum(multiply_adds(line) for line in body)
    costs = [cycles(arch["name"], llvm, model, tuple(body)) for model in arch["mca"]]
    costs = [shown(cost and cost / each) for cost in costs]
    return f"| {name} | {len(body)} | {each} | {len(body) / each:.2f} | " + " | ".join(costs) + " |"


def products(arch, llvm, work, program, kernels):
    """Prints what whole products take, a multiply-add; returns the inner loops that were met, by kernel."""
    print(f"\n{arch['name']}: whole products, for each multiply-add: {' / '.join(kernels)}\n")
    print("| M x K x N | way | instructions | " + " | ".join(arch["mca"]) + " |\n|---|---|---|" + "---|" * len(arch["mca"]))
    loops = {}
    for shape in SHAPES:
        for way in WAYS:
            found = [product(arch, work, program, kernel, shape, way) for kernel in kernels]
            size = shape[0] * shape[1] * shape[2]
            cells = [" / ".join(shown(count / size) for count, _ in found)]
            for model in arch["mca"]:
                costs = [whole(arch, llvm, program, model, *entry) for entry in found]
                cells.append(" / ".join(shown(cost and cost / size) for cost in costs))
            print(f"| {'x'.join(map(str, shape))} | {way} | " + " | ".join(cells) + " |", flush=True)
            for kernel, (_, runs) in zip(kernels, found):
                loops.setdefault(kernel, Counter())[next(iter(runs))] += 1
    return loops


def inner_loops(arch, llvm, program, loops, tract):
    print(f"\n{arch['name']}: inner loops, and predicted cycles for each multiply-add\n")
    print("| loop | instructions | multiply-adds | instructions each | " + " | ".join(arch["mca"]) + " |")
    print("|---|---|---|---|" + "---|" * len(arch["mca"]))
    for kernel, blocks in loops.items():
        for block in blocks:
            body = instructions(arch["name"], llvm, program, block)
            if any(map(multiply_adds, body)):
                print(row(arch, llvm, f"{kernel}, at {block[0]:x}", body))
    for file in sorted(Path(tract).glob("*_mmm_f32_*.o")):
        body = inner_loop(disassembled(arch["name"], llvm, file))
        if "sve" not in file.name and "sme" not in file.name and any(map(multiply_adds, body)):
            print(row(arch, llvm, "tract-linalg " + file.stem.split("-", 1)[1], body))


def timings(file):
    """Prints what tract-linalg's authors have timed: kernel, its tile, M, K, N, seconds."""
    kernels, shapes = {}, [(192, 1728, 64), (196, 816, 136), (320, 192, 64)]
    for line in file.read_text().splitlines():
        name, _, _, m, k, n, seconds = line.split()
        shape = (int(m), int(k), int(n))
        if shape in shapes:
            kernels.setdefault(name, {})[shape] = float(seconds) / (shape[0] * shape[1] * shape[2]) * 1e9
    print("\nns a multiply-add, timed by tract-linalg's authors: " + file.name + "\n")
    print("| kernel | " + " | ".join("x".join(map(str, shape)) for shape in shapes) + " |\n|---|" + "---|" * len(shapes))
    for name, found in sorted(kernels.items(), key=lambda entry: sum(entry[1].values())):
        print(f"| {name} | " + " | ".join(f"{found[shape]:.2f}" for shape in shapes) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tract", type=Path, help="folder of tract-linalg's object files for aarch64")
    parser.add_argument("--tract32", type=Path, help="the same for armv7")
    parser.add_argument("--target-dir", type=Path, default=HERE.parents[2] / "target/arm-kernels")
    parser.add_argument("--llvm", default="22", help="version of llvm-mca and llvm-objdump")
    parser.add_argument("--timings", type=Path, help="a file of tract-linalg's timings")
    options = parser.parse_args()
    if options.timings:
        timings(options.timings)
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        run("cc", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", HERE / "count.c", "-o", work / "count.so")
        for arch, tract in ((AARCH64, options.tract), (ARMV7, options.tract32)):
            if tract:
                program = build(arch, options.target_dir)
                loops = products(arch, options.llvm, work, program, ["srlora", "ndarray"])
                inner_loops(arch, options.llvm, program, loops, tract)


if __name__ == "__main__":
    main()
