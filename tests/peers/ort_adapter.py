#!/usr/bin/env python3
"""What `srlora export --ort-adapter` writes, in the hands of onnxruntime and onnx's checker.

For each model: pack, a lesson on all classes, one with recompositions, one of two-sided pairs on two classes, and one of imprinting alone;
and export each with one base. Then

- the checker takes the base, in full; it runs without an adapter, and gives one class;
- with each adapter in turn, one session gives the probabilities that `predict` gives: of all classes, of two, of imprinting; and without its
  pairs it would not;
- `AdapterFormat` reads the tensors, classes among them; an adapter of another bundle is refused;
- every byte of the vendor's graph outside of the old classifier is in the base, but for the names of what sites make;
- the base is the same whichever store it is written with, and an adapter is the same each time.

    python3 -m venv VENV && VENV/bin/pip install -r tests/peers/requirements.txt
    VENV/bin/python tests/peers/ort_adapter.py --program target/release/srlora --assets ASSETS --work DIR [MODEL...]
"""
import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

import onnx_export as peer

MODELS = list(peer.MODELS)
# Of imprinted stores every weight is the vendor's: what these differ by, runtimes differ by.
FLOAT_BOUND, SAME_CLASS, SLACK = peer.FLOAT_BOUND, peer.SAME_CLASS, peer.SLACK
RECOMPOSED = ["--interval", "8"]


def session(file, optimized):
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def active(adapter):
    """Options of a run with an adapter, and the adapter, which must live as long."""
    loaded, options = ort.LoraAdapter(), ort.RunOptions()
    loaded.Load(str(adapter))
    options.add_active_adapter(loaded)
    return options, loaded


def answers(served, images, adapter):
    options, loaded = active(adapter)
    (given,), (made,) = served.get_inputs(), served.get_outputs()
    batch = given.shape[0] if isinstance(given.shape[0], int) else 1
    images = [peer.fitted(np.repeat(image, batch, 0), given) for image in images]
    return np.array([peer.softmax(served.run([made.name], {given.name: image}, options)[0][0]) for image in images])


def without_pairs(served, image, adapter):
    """The head alone, given as plain inputs: what pairs have changed is the difference."""
    tensors = ort.AdapterFormat.read_adapter(str(adapter)).get_parameters()
    head = {name: tensor.numpy() for name, tensor in tensors.items() if name.startswith("srlora.head.")}
    (given,), (made,) = served.get_inputs(), served.get_outputs()
    batch = given.shape[0] if isinstance(given.shape[0], int) else 1
    return peer.softmax(served.run([made.name], {given.name: peer.fitted(np.repeat(image, batch, 0), given), **head})[0][0])


def note(adapter):
    file = ort.AdapterFormat.read_adapter(str(adapter))
    tensors = file.get_parameters()
    (name,) = (name for name in tensors if name.startswith("srlora.note."))
    said = json.loads(tensors[name].numpy().tobytes())
    assert file.get_format_version() == 1 and file.get_adapter_version() == said["generation"]
    assert name == f"srlora.note.{said['bundle_sha256'][:8]}" and file.get_model_version() == int(name[12:], 16) & 0x7FFFFFFF
    return said, {name: tensor.shape() for name, tensor in tensors.items()}


def changed(vendor, base):
    """Parts of the vendor's graph that are not in the base byte by byte, and are not the old classifier's: the nodes of sites."""
    left_out, rewritten = peer.compare_bytes(vendor, base, set())
    return left_out, rewritten


def check_alone(base, classes_of_none=1):
    onnx.checker.check_model(str(base), full_check=True)
    model = onnx.load(base)
    held, listed = {t.name for t in model.graph.initializer}, {i.name for i in model.graph.input}
    served = session(base, True)
    (given,) = served.get_inputs()
    shape = [size if isinstance(size, int) else {0: 1}.get(axis, 224) for axis, size in enumerate(given.shape)]
    (logits,) = served.run(None, {given.name: np.zeros(shape, np.float16 if "float16" in given.type else np.float32)})
    assert logits.shape[1] == classes_of_none and not logits.any(), logits
    overridable = {i.name for i in served.get_overridable_initializers()}
    assert overridable == listed & held and listed - held == {given.name}
    return overridable


def export(program, bundle, store, base, adapter, *more):
    Path(adapter).unlink(missing_ok=True)
    return peer.run(program, "export", bundle, "--store", store, "--ort-adapter", base, adapter, *more)[0]


def two_classes(work, root):
    """The first two classes of the photos alone."""
    two = work / f"{root.name}-two"
    for label in sorted((root / "train").iterdir())[:2]:
        two.mkdir(parents=True, exist_ok=True)
        if not (two / label.name).exists():
            (two / label.name).symlink_to(label.resolve())
    return two


def check(program, assets, work, name):
    file, data, flags, side, kind = peer.MODELS[name]
    place, vendor = work / "ort" / name, assets / "models" / file
    subprocess.run(["rm", "-rf", place], check=True)
    place.mkdir(parents=True)
    root = peer.photos(assets, work, data, side)
    bundle = place / "a.bundle"
    peer.run(program, "pack", vendor, "-o", bundle, "--fit", "stretch", *flags)
    train, two = root / "train", two_classes(work, root)
    lessons = {"all": (train, []), "recomposed": (train, RECOMPOSED), "two": (two, ["--pairs", "both"]), "imprinted": (train, ["--method", "imprint"])}
    paths = sorted((root / "test").glob("*/*.png"))
    images = [peer.pixels(path, flags) for path in paths]
    result, base = {"model": name, "photos": len(paths)}, place / "base.onnx"
    served, first = {}, None
    for store, (photos, more) in lessons.items():
        peer.run(program, "train", bundle, "--data", photos, "-o", place / store, "--epochs", "8", *more)
        report = export(program, bundle, place / store, base, place / f"{store}.onnx_adapter")
        assert report["base_kept"] == (first is not None)
        first = first or base.read_bytes()
        assert base.read_bytes() == first, "a base that was there has changed"
        if not served:
            overridable = check_alone(base)
            served = {optimized: session(base, optimized) for optimized in (False, True)}
            left_out, rewritten = changed(vendor.read_bytes(), first)
            assert set(rewritten) == {site["name"] for site in report["sites"]}, rewritten
            result |= {"base_mib": round(len(first) / 2**20, 2), "vendor_mib": round(vendor.stat().st_size / 2**20, 2), "left_out": len(left_out)}
        classes = sorted(p.name for p in photos.iterdir())
        said, tensors = note(place / f"{store}.onnx_adapter")
        assert said["classes"] == classes == report["classes"], said
        assert set(tensors) <= overridable and tensors["srlora.head.weight"][0] == len(classes)
        expected = peer.predicted(program, bundle, place / store, classes, paths)
        found = {optimized: answers(one, images, place / f"{store}.onnx_adapter") for optimized, one in served.items()}
        same = {optimized: float((f.argmax(1) == expected.argmax(1)).mean()) for optimized, f in found.items()}
        apart = {optimized: float(np.abs(f - expected).max()) for optimized, f in found.items()}
        size = (place / f"{store}.onnx_adapter").stat().st_size
        plain = np.array([without_pairs(served[False], image, place / f"{store}.onnx_adapter") for image in images])
        result[store] = {"classes": len(classes), "adapter_kib": round(size / 1024, 1), "pairs": sum(s["rank"] for s in report["sites"]),
                         "worst_site": max(s["error_fro"] for s in report["sites"]), "self_check": report["max_probability_difference"],
                         "difference": apart[False], "difference_optimized": apart[True], "same_class": min(same.values()),
                         "of_pairs": float(np.abs(plain - found[False]).max())}
        if kind == "rounded":
            floats = export(program, bundle, place / store, place / "float.onnx", place / "again.onnx_adapter", "--precision", "fp32")
            assert (place / "again.onnx_adapter").read_bytes() == (place / f"{store}.onnx_adapter").read_bytes(), "an adapter is of one precision"
            in_float = answers(session(place / "float.onnx", True), images, place / f"{store}.onnx_adapter")
            result[store] |= {"difference_fp32": float(np.abs(in_float - expected).max()), "self_check_fp32": floats["max_probability_difference"]}
    result["cut"] = {rank: cut(program, place, served[True], images, paths, root, rank) for rank in ("0.99", "0.9", "2")}
    # And back again: no adapter has left anything behind.
    again = answers(served[True], images[:8], place / "all.onnx_adapter")
    assert np.array_equal(again, answers(session(base, True), images[:8], place / "all.onnx_adapter"))
    result |= costs(program, place, images, served[True])
    result["refused"] = refused(program, vendor, flags, place, (served[True], images[0], two))
    result["ok"] = is_right(result, kind)
    return result


def costs(program, place, images, served):
    """Medians of milliseconds a photo in onnxruntime, one thread: a base with an adapter, and the same network merged."""
    (place / "merged.onnx").unlink(missing_ok=True)
    peer.run(program, "export", place / "a.bundle", "--store", place / "all", "--onnx", place / "merged.onnx")
    options, loaded = active(place / "all.onnx_adapter")
    merged = session(place / "merged.onnx", True)
    (given,) = merged.get_inputs()
    image = images[0].astype(np.float16 if "float16" in given.type else np.float32)
    times = {"ms_base": [], "ms_merged": []}
    for _ in range(40):
        for key, run in (("ms_base", lambda: served.run(None, {given.name: image}, options)), ("ms_merged", lambda: merged.run(None, {given.name: image}))):
            begin = time.perf_counter()
            run()
            times[key].append(1000 * (time.perf_counter() - begin))
    return {key: round(float(np.median(values)), 2) for key, values in times.items()} | {"merged_mib": round((place / "merged.onnx").stat().st_size / 2**20, 2)}


def cut(program, place, served, images, paths, root, rank):
    """The lesson on all classes with fewer pairs: how large the adapter is, and what is lost beside the whole one."""
    adapter = place / f"cut{rank}.onnx_adapter"
    report = export(program, place / "a.bundle", place / "all", place / "base.onnx", adapter, "--rank", rank)
    whole, less = answers(served, images, place / "all.onnx_adapter"), answers(served, images, adapter)
    classes = sorted(p.name for p in (root / "train").iterdir())
    truth = np.array([classes.index(path.parent.name) for path in paths])
    right = [float((found.argmax(1) == truth).mean()) for found in (whole, less)]
    return {"adapter_kib": round(report["files"][1]["bytes"] / 1024, 1), "pairs": sum(s["rank"] for s in report["sites"]),
            "same_class": float((less.argmax(1) == whole.argmax(1)).mean()), "points": round(100 * (right[1] - right[0]), 2)}


def refused(program, vendor, flags, place, given):
    """Whether onnxruntime refuses the adapter of another bundle of the same network, with the same sites."""
    (served, image, photos), other = given, place / "other.bundle"
    peer.run(program, "pack", vendor, "-o", other, "--fit", "stretch", *flags, "--reserve", "33")
    peer.run(program, "train", other, "--data", photos, "-o", place / "other", "--method", "imprint")
    export(program, other, place / "other", place / "other.onnx", place / "other.onnx_adapter")
    try:
        answers(served, [image], place / "other.onnx_adapter")
    except Exception as error:
        assert "Invalid input name: srlora.note." in str(error), error
        return True
    return False


def is_right(result, kind):
    lessons = [result[store] for store in ("all", "recomposed", "two", "imprinted")]
    if not result["refused"] or result["all"]["of_pairs"] < 100 * FLOAT_BOUND:
        return False
    if kind == "float":
        return all(max(lesson["difference"], lesson["difference_optimized"]) <= FLOAT_BOUND for lesson in lessons)
    # In float the function is `predict`'s. Otherwise a runtime rounds activations, and of imprinted stores that is all it does.
    floor = min(SAME_CLASS, result["imprinted"]["same_class"]) - SLACK
    return all(lesson["difference_fp32"] <= FLOAT_BOUND and lesson["same_class"] >= floor for lesson in lessons)


def check_fixture(program, work, path):
    """A small network in one of the forms in which a file can hold its weights."""
    place = work / "ort-fixtures" / path.stem
    known = peer.taught(program, work, place, path)
    if isinstance(known, str):
        return {"fixture": path.stem, "refused": known}
    valid, images, expected = known
    bundle = place / "a.bundle"
    result = {"fixture": path.stem}
    for precision in ("keep", "fp32"):
        base, adapter = place / f"{precision}.onnx", place / f"{precision}.onnx_adapter"
        done = subprocess.run([program, "export", bundle, "--store", place / "store", "--ort-adapter", base, adapter, "--precision", precision, "--json"], capture_output=True, text=True)
        if done.returncode != 0:
            result[precision] = f"refused ({done.returncode}): {done.stderr.strip().splitlines()[-1][:200]}"
            continue
        if valid:
            onnx.checker.check_model(str(base), full_check=True)
        apart = max(np.abs(answers(session(base, optimized), images, adapter) - expected).max() for optimized in (False, True))
        result[precision] = float(f"{apart:.1e}")
        result["of_pairs"] = float(f"{max(np.abs(without_pairs(session(base, True), image, adapter) - one).max() for image, one in zip(images, expected)):.1e}")
    return result


def main():
    given = peer.asked()
    for path in given.fixtures:
        result = check_fixture(given.program, given.work, path)
        print(json.dumps(result), flush=True)
        model = onnx.load(path)
        rounded = any("QuantizeLinear" in node.op_type or node.op_type.startswith("QLinear") for node in model.graph.node)
        rounded |= any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer)
        for precision in ("fp32",) if rounded else ("keep", "fp32"):
            if isinstance(result.get(precision), float) and result[precision] > FLOAT_BOUND:
                sys.exit(f"{path.stem}, {precision}: {result[precision]} from predict")
    if given.fixtures and not given.models:
        return
    results = []
    for name in given.models or MODELS:
        results.append(check(given.program, given.assets, given.work, name))
        print(json.dumps(results[-1]), flush=True)
    failed = [result["model"] for result in results if not result["ok"]]
    sys.exit(f"beyond the bounds: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
