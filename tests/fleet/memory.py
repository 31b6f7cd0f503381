#!/usr/bin/env python3
"""What a device of a fleet takes in memory, process by process, over a run of one round; and what of it is srlora's.

    memory.py [--bundle B --data PHOTOS]      the demo's, by default
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from place import BUNDLE, HANDWRITING, ROOT, Fleet

IMPORTS = {
    "Python alone": "",
    "with numpy": "import numpy",
    "with Flower's client": "import numpy, flwr.clientapp, flwr.app, flwr.supernode.runtime.run_clientapp",
    "with srlora": "import numpy, flwr.clientapp, flwr.app, flwr.supernode.runtime.run_clientapp, srlora, srlora.flower.client",
}


def status(pid, name):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) / 1024
    return 0.0


def session(leader):
    """The processes that a process has started, itself included, by program."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            fields = (place / "stat").read_text().rsplit(")", 1)[1].split()
            if int(fields[3]) == leader or place.name == str(leader):
                words = (place / "cmdline").read_bytes().split(b"\0")
                names = [Path(word.decode()).name for word in words if b"flower-" in word or b"flwr-" in word]
                if names:
                    yield names[0], place.name
        except (OSError, IndexError):
            continue


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    parser.add_argument("--data", type=Path, default=HANDWRITING / "train")
    parser.add_argument("--photos", type=int, default=5, help="of each class")
    args = parser.parse_args()
    for name, imports in IMPORTS.items():
        code = f"{imports}\nprint(next(l for l in open('/proc/self/status') if l.startswith('VmHWM')).split()[1])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        print(f"{name:26} {int(done.stdout) / 1024:6.1f} MiB")
    folder = Path(tempfile.mkdtemp(prefix="fleet-"))
    try:
        for label in args.data.iterdir():
            if label.is_dir():
                place = folder / "device-0" / "photos" / label.name
                place.mkdir(parents=True)
                for source in sorted(label.iterdir())[: args.photos]:
                    shutil.copy(source, place)
        peaks = {}
        with Fleet(folder, 1, config={0: {"bundle": args.bundle}}) as fleet:
            run = fleet.submit(ROOT / "examples" / "fleet", rounds=1, min_nodes=1)
            leader = fleet.processes["node-0"].pid
            while not fleet.state(run).startswith("finished"):
                for _ in range(20):
                    for program, pid in session(leader):
                        try:
                            peaks[program] = max(peaks.get(program, 0.0), status(pid, "VmHWM"))
                        except OSError:
                            continue
                    time.sleep(0.1)
            print(fleet.state(run))
        for program, peak in sorted(peaks.items()):
            print(f"{program:26} {peak:6.1f} MiB at most")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
