"""Runs of real fleets, side by side, as most of each is waiting: for processes to start, and for the SuperLink to miss a node."""

import atexit
import os
import shutil
import signal
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Dict

import numpy as np
import srlora
from place import BUNDLE, ROOT, Fleet, split, stored
from srlora.flower import clock

APP = ROOT / "tests" / "fleet" / "app"
LACKS = {1: ("9",), 2: ("0", "1")}
TIMEOUT = 300.0
"""Seconds that a round waits for an answer. None waits so long: a node that is gone is missed after a minute."""

_begun: Dict[str, "Future[SimpleNamespace]"] = {}


def result(name):
    """What has come of a run. The first to ask begins all of them."""
    if not _begun:
        threads = ThreadPoolExecutor(len(RUNS))
        for each, run in RUNS.items():
            _begun[each] = threads.submit(run, folder())
    return _begun[name].result()


def folder():
    made = Path(tempfile.mkdtemp(prefix="fleet-"))
    if os.environ.get("FLEET_KEEP"):
        print(made)
    else:
        atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def learns(place):
    """Five rounds of three devices that misbehave by turns; one is killed between lesson and answer, and started again."""
    split(place, 3, LACKS)
    of = {0: "1:claims", 1: "2:shape 3:waits-to-answer 4:classes", 2: "2:nan 4:far"}
    with Fleet(place, 3, config={device: {"misbehaves": how} for device, how in of.items()}) as fleet:
        run = fleet.submit(APP, keep=str(place / "keep"), output=str(place / "fleet.npz"), epochs=3, round_timeout=TIMEOUT)
        ahead = clock.ahead(f"http://127.0.0.1:{fleet.link}")
        late = fleet.late_node(3600)
        fleet.wait_for(run, 1, "waits-to-answer")
        before = stored(place, 1)
        fleet.kill("node-1")
        killed = before, stored(place, 1)
        fleet.start_node(1, misbehaves="4:classes")
        told = {"clock": ahead, "late": (late, fleet.log("superlink")), "killed": killed, "state": fleet.wait(run, 900)}
        return SimpleNamespace(folder=place, **told, told=fleet.flwr("log", run, "lo", "--show"))


def dies(place):
    """Three devices that have a store each. In round 1 one is killed before its lesson, and one in it; they are started again. In the
    evaluation, one is killed before it, and the app of one while its store takes the mean."""
    split(place, 3)
    for device in range(3):
        here = place / f"device-{device}"
        srlora.train(BUNDLE, here / "photos", here / "store", epochs=1, progress=False)
    of = {0: "", 1: "1:waits-to-begin 2:waits-to-evaluate", 2: "1:waits-in-lesson 2:dies-in-adoption"}
    killed = {}
    with Fleet(place, 3, config={device: {"misbehaves": how} for device, how in of.items()}) as fleet:
        run = fleet.submit(APP, rounds=2, epochs=3, round_timeout=TIMEOUT, keep=str(place / "keep"), output=str(place / "fleet.npz"))
        for device, where in ((1, "waits-to-begin"), (2, "waits-in-lesson")):
            fleet.wait_for(run, device, where)
            killed[where] = kill(fleet, device)
            fleet.start_node(device)
        fleet.wait_for(run, 1, "waits-to-evaluate")
        killed["waits-to-evaluate"] = kill(fleet, 1)
        state = fleet.wait(run, 900)
        return SimpleNamespace(folder=place, killed=killed, state=state, told=fleet.flwr("log", run, "lo", "--show"))


def kill(fleet, device):
    before = stored(fleet.folder, device)
    fleet.kill(f"node-{device}", signal.SIGKILL)
    return before, stored(fleet.folder, device)


def restarts(place):
    """Two devices; in the middle of round 2 the SuperLink is killed, with all that it has started, and started again. A new run goes on."""
    split(place, 2)
    settings = {"rounds": 3, "epochs": 3, "min_nodes": 2, "round_timeout": TIMEOUT, "output": str(place / "fleet.npz"), "resume": True}
    of = dict.fromkeys(range(2), {"misbehaves": "2:waits-to-answer"})
    with Fleet(place, 2, database=True, config=of) as fleet:
        cut = fleet.submit(APP, **settings)
        for device in range(2):
            fleet.wait_for(cut, device, "waits-to-answer")
        before = [stored(place, device) for device in range(2)]
        fleet.kill("superlink")
        with np.load(place / "fleet.npz") as file:
            after_round = int(file["round"])
        for device in range(2):
            (place / f"device-{device}" / "go-on").touch()
        fleet.start_link()
        state_of_cut = fleet.state(cut)
        stores = before, [stored(place, device) for device in range(2)]
        run = fleet.submit(APP, **settings)
        state = fleet.wait(run, 900)
        told = fleet.flwr("log", run, "lo", "--show")
        return SimpleNamespace(folder=place, stores=stores, after_round=after_round, cut=state_of_cut, state=state, told=told)


RUNS = {"learns": learns, "dies": dies, "restarts": restarts}
