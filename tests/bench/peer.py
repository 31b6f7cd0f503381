#!/usr/bin/env python3
"""Training step and forward pass against PyTorch + PEFT and onnxruntime: runs in turn, medians, ratios (below 1: srlora is faster).

    python tests/bench/peer.py target/release/srlora MODEL.onnx --features NODE --data DIR [--rounds 5] [--threads 1 2]
           [--pack "--mean .5 --std .5"] [--peer peft_anchor.py] [--peer-args "--mean .5 --std .5"] [--no-cache]

The peer is a script that trains the same sites of the same file at the same rank and batch, and prints one JSON line with
`step_ms_median`, `step_ms_p10` and `peak_rss_bytes`; it runs with and without channels-last, and the faster one counts. It is
looked for beside the assets ($SRLORA_ASSETS/../reference). Needs torch, peft, onnx, pillow and onnxruntime.
"""
import argparse, json, os, statistics, subprocess, sys, tempfile
from pathlib import Path


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def forward_of_onnxruntime(model, size):
    """Milliseconds of one image on one thread, median of 20."""
    code = f"""
import json, time, numpy, onnxruntime
options = onnxruntime.SessionOptions(); options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession({str(model)!r}, options, ["CPUExecutionProvider"])
image = numpy.zeros((1, 3, {size[0]}, {size[1]}), "float32")
times = []
for _ in range(23):
    begin = time.perf_counter(); session.run(None, {{session.get_inputs()[0].name: image}}); times.append(time.perf_counter() - begin)
print(json.dumps(sorted(times[3:])[10] * 1e3))
"""
    return run(sys.executable, "-c", code)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("srlora"), parser.add_argument("model"), parser.add_argument("--features", required=True)
    parser.add_argument("--data", required=True), parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2]), parser.add_argument("--pack", default="")
    parser.add_argument("--input", default="224x224"), parser.add_argument("--sites", default="last:12")
    parser.add_argument("--no-cache", action="store_true", help="leave the steps with a cached prefix out")
    parser.add_argument("--peer"), parser.add_argument("--peer-args", default="")
    a = parser.parse_args()
    assets = os.environ.get("SRLORA_ASSETS")
    peer = Path(a.peer) if a.peer else Path(assets).parent / "reference" / "peft_anchor.py" if assets else None
    if not (peer and peer.exists()):
        sys.exit("no peer: give a script with --peer (see --help for what it prints), or set SRLORA_ASSETS")
    shared = [peer, a.model, "--features", a.features, "--train", a.data, "--shots", 20, "--method", "lora", "--sites", a.sites,
              "--rank", 8, "--batch", 16, "--epochs", 2, "--input", a.input, *a.peer_args.split()]
    with tempfile.TemporaryDirectory() as folder:
        bundle = f"{folder}/model.bundle"
        run(a.srlora, "pack", a.model, "-o", bundle, "--sites", a.sites, "--rank", 8, *a.pack.split(), "--json")
        for threads in a.threads:
            ours, theirs, forwards = [], {}, []
            for _ in range(a.rounds):
                ours.append(run(a.srlora, "bench", bundle, "--threads", threads, "--json"))
                for layout in [[], ["--channels-last"]]:
                    for cache in [[]] if a.no_cache else [[], ["--cache-prefix"]]:
                        found = run(sys.executable, *shared, "--threads", threads, *layout, *cache)
                        theirs.setdefault((bool(cache), bool(layout)), []).append(found)
                if threads == 1:
                    forwards.append(forward_of_onnxruntime(a.model, [int(side) for side in a.input.split("x")]))
            median = lambda runs, key: statistics.median(found[key] for found in runs)
            memory = min(median(runs, "peak_rss_bytes") for runs in theirs.values())
            for cached, key in [(False, "step_ms"), (True, "cached_step_ms")][: 1 if a.no_cache else 2]:
                mine = median(ours, key)
                best = min(median(theirs[cached, layout], "step_ms_median") for layout in (False, True))
                print(f"{threads} thread(s), {'prefix cached' if cached else 'whole step   '}: {mine:7.1f} ms against "
                      f"{best:7.1f} ms, ratio {mine / best:.2f}", flush=True)
            print(f"{threads} thread(s), memory: {median(ours, 'peak_rss_bytes') / 2**20:.0f} MiB against {memory / 2**20:.0f} MiB")
            if forwards:
                mine, best = median(ours, "forward_ms"), statistics.median(forwards)
                adapted = median(ours, "adapted_forward_ms")
                print(f"1 thread, forward: {mine:.2f} ms against onnxruntime's {best:.2f} ms, ratio {mine / best:.2f}; "
                      f"adapted against plain {adapted / mine:.3f}")


if __name__ == "__main__":
    main()
