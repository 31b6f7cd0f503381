#!/usr/bin/env python3
"""What `train` says it will take against what it takes, and whether a limit holds.

    python tests/bench/memory.py target/release/srlora --data DIR MODEL.onnx... [--pack "..."] [--batches 4 16 48]
           [--threads 1 2] [--flags "" "--method head" "--cache ram --augment on"] [--limits 64 48 40 32]

For every model, batch, number of threads and set of flags: planned and measured peak (VmHWM). A plan below the measurement, or more
than a tenth above it, is marked. Limits
are in MiB, for the first model: each run gets `--ram-limit` and is watched from outside, in a cgroup with that much memory where
one can be made (no swap, so a process that takes more is killed), else by reading VmHWM. The model's bundle is made with
`pack --sites last:12` (or all, where there are fewer) and the options of --pack.
"""
import argparse, itertools, json, os, subprocess, sys, tempfile, time
from pathlib import Path

# Where groups lie, and what sets their limits: version 2, and 1.
CGROUPS = [(Path("/sys/fs/cgroup"), ["memory.max", "memory.swap.max"]),
           (Path("/sys/fs/cgroup/memory"), ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"])]


def run(*command):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True)


def pack(srlora, model, bundle, options):
    for sites in ("last:12", "all"):
        done = run(srlora, "pack", model, "-o", bundle, "--sites", sites, *options, "--json")
        if done.returncode == 0:
            return
    sys.exit(f"{model}: {done.stderr}")


def cgroup(limit):
    """A group with so many bytes, or None where none can be made."""
    for root, (memory, swap) in CGROUPS:
        group = root / f"srlora-{os.getpid()}"
        try:
            group.mkdir()
            # The kernel makes it, where this is a place for groups.
            if not (group / memory).exists():
                raise OSError
            (group / memory).write_text(str(limit))
            if (group / swap).exists():
                (group / swap).write_text("0" if swap == "memory.swap.max" else str(limit))
            return group
        except OSError:
            if group.is_dir():
                group.rmdir()
    return None


def watched(command, limit):
    """Exit status, stderr, and the largest VmHWM seen from outside."""
    group, highest = cgroup(limit), 0
    enter = (lambda: (group / "cgroup.procs").write_text(str(os.getpid()))) if group else None
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, preexec_fn=enter)
        while process.poll() is None:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
                highest = max([highest, *(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM"))])
            except OSError:
                pass
            time.sleep(0.002)
        errors.seek(0)
        text = errors.read().decode()
    if group:
        group.rmdir()
    return process.returncode, text, highest, "cgroup" if group else "VmHWM"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("srlora"), parser.add_argument("models", nargs="+", type=Path), parser.add_argument("--data", required=True)
    parser.add_argument("--pack", default=""), parser.add_argument("--batches", type=int, nargs="+", default=[4, 16, 48])
    parser.add_argument("--threads", type=int, nargs="+", default=[1]), parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--flags", nargs="+", default=["--val-split 0.8"])
    parser.add_argument("--limits", type=int, nargs="*", default=[64, 48, 40, 32])
    a = parser.parse_args()
    mib = lambda size: size / 2**20
    with tempfile.TemporaryDirectory() as folder:
        for at, model in enumerate(a.models):
            pack(a.srlora, model, f"{folder}/{at}.bundle", a.pack.split())
            for batch, threads, flags in itertools.product(a.batches, a.threads, a.flags):
                store = tempfile.mkdtemp(dir=folder) + "/store"
                done = run(a.srlora, "train", f"{folder}/{at}.bundle", "--data", a.data, "-o", store, "--steps", a.steps,
                           "--batch", batch, "--threads", threads, "--json", *flags.split())
                if done.returncode:
                    sys.exit(f"{flags}: {done.stderr}")
                found = json.loads(done.stdout)
                planned, measured = found["planned_peak_bytes"], found["peak_rss_bytes"]
                mark = "  BELOW" if planned < measured else "  ABOVE 10 %" if planned > 1.1 * measured else ""
                print(f"{model.stem:44} batch {batch:3} threads {threads} {flags:40}: planned {mib(planned):6.1f} MiB, measured "
                      f"{mib(measured):6.1f} MiB, ratio {planned / measured:.3f}{mark}", flush=True)
        for limit in a.limits:
            store = tempfile.mkdtemp(dir=folder) + "/store"
            command = [a.srlora, "train", f"{folder}/0.bundle", "--data", a.data, "-o", store, "--val-split", "0.8", "--steps",
                       str(a.steps), "--threads", "2", "--ram-limit", f"{limit}MiB"]
            status, text, highest, how = watched(command, limit << 20)
            last = [line for line in text.strip().splitlines() if line.startswith(("plan", "error"))][-1:]
            print(f"limit {limit} MiB ({how}): exit {status}, at most {mib(highest):.1f} MiB; {' '.join(last)}", flush=True)


if __name__ == "__main__":
    main()
