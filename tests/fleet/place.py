"""A SuperLink and SuperNodes on loopback, each a process of its own, and photos for them."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HANDWRITING = ROOT / "models" / "handwriting"
BUNDLE = HANDWRITING / "handwriting.bundle"
PROGRAMS = Path(sys.executable).parent


def free_ports(count):
    """Ports that nothing listens on. Held together, so that no two are the same."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def split(folder, devices, without=None):
    """The demo's photos to learn from, dealt out to devices by turns. Device i has no photos of the classes `without[i]`."""
    for device in range(devices):
        for source in sorted((HANDWRITING / "train").glob("*/*.png")):
            own = sorted(source.parent.iterdir()).index(source) % devices == device
            if own and source.parent.name not in (without or {}).get(device, ()):
                place = folder / f"device-{device}" / "photos" / source.parent.name
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, place)


def stored(folder, device):
    """The files of a device's store, as they are."""
    return {path.name: path.read_bytes() for path in (folder / f"device-{device}" / "store").glob("*.safetensors")}


class Fleet:
    """SuperLink and SuperNodes. Their logs are files in `folder`."""

    def __init__(self, folder, devices, **of_all):
        self.folder, self.of_all, self.processes, self.submitted = folder, of_all, {}, None
        self.link, *self.node_ports = free_ports(1 + devices)
        home = folder / "flower"
        home.mkdir(parents=True)
        (home / "config.toml").write_text(f'[superlink]\ndefault = "lo"\n\n[superlink.lo]\naddress = "127.0.0.1:{self.link}"\ninsecure = true\n')
        self.environment = os.environ | {"FLWR_HOME": str(home), "FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0",
                                         "PATH": f"{PROGRAMS}:{os.environ['PATH']}"}  # fmt: skip
        self.environment.pop("PYTHONPATH", None)

    def __enter__(self):
        try:
            self.start_link()
            for device in range(len(self.node_ports)):
                self.start_node(device)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in list(self.processes):
            self.kill(name, signal.SIGTERM)

    def start_link(self):
        more = ["--database", str(self.folder / "superlink.db")] if self.of_all.get("database") else []
        more += ["--simulation"] if self.of_all.get("simulation") else []
        self._start("superlink", [PROGRAMS / "flower-superlink"], "--insecure", "--host", "127.0.0.1", "--port", str(self.link),
                    "--disable-runtime-dependency-installation", *more)  # fmt: skip
        until = time.monotonic() + 300
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", self.link), 1).close()
                return
            except OSError:
                time.sleep(0.2)
        raise AssertionError(f"the SuperLink does not listen: {self.log('superlink')}")

    def start_node(self, device, **more):
        place = self.folder / f"device-{device}"
        config = {"bundle": BUNDLE, "photos": place / "photos", "store": place / "store", **self.of_all.get("config", {}).get(device, {}), **more}
        told = " ".join(f"{name}={value if isinstance(value, (int, float)) else json.dumps(str(value))}" for name, value in config.items())
        self._start(f"node-{device}", [PROGRAMS / "flower-supernode"], "--insecure", "--superlink", f"127.0.0.1:{self.link}",
                    "--port", str(self.node_ports[device]), "--node-config", told)  # fmt: skip

    def late_node(self, seconds):
        """A SuperNode whose clock is so many seconds behind: what it says until it ends."""
        node = [sys.executable, ROOT / "tests" / "fleet" / "late.py", str(seconds)]
        self._start("late", node, "--insecure", "--superlink", f"127.0.0.1:{self.link}", "--port", str(free_ports(1)[0]))
        process = self.processes["late"]
        process.wait(300)
        del self.processes["late"]
        return self.log("late")

    def _start(self, name, program, *arguments):
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [*program, *arguments], stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self.environment,
                cwd=self.folder, start_new_session=True,
            )  # fmt: skip

    def wait_for(self, run, device, where):
        """Until a device has come to where it waits (`tests/fleet/app`). How long that takes is not judged."""
        place = self.folder / f"device-{device}" / where
        while not place.exists():
            until = time.monotonic() + 10  # to ask for the run's state starts a process of Flower's
            while not place.exists() and time.monotonic() < until:
                time.sleep(0.2)
            state = "" if place.exists() else self.state(run)
            assert not state.startswith("finished"), f"{state}: {self.log('superlink')[-4000:]}"

    def kill(self, name, how=signal.SIGKILL):
        """Kills what was started here under that name, with what it has started."""
        process = self.processes.pop(name)
        try:
            os.killpg(process.pid, how)
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        except ProcessLookupError:
            process.wait()

    def log(self, name):
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def flwr(self, *arguments):
        done = subprocess.run([PROGRAMS / "flwr", *arguments], env=self.environment, capture_output=True, text=True, check=False, cwd=self.folder)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def submit(self, app, simulated=0, **config):
        """Begins a run, on so many simulated nodes where that was asked for; answers its number."""
        quoted = " ".join(f"{name.replace('_', '-')}={json.dumps(value)}" for name, value in config.items())
        # One node at a time, so that memory and time are those of one lesson.
        nodes = ["--federation-config", f"num-supernodes={simulated} client-resources-num-cpus=1 init-args-num-cpus=1"] if simulated else []
        told = json.loads(self.flwr("run", str(app), "lo", "--format", "json", "--run-config", quoted, *nodes))
        assert told.get("success"), told
        return str(told["run-id"])

    def state(self, run):
        return json.loads(self.flwr("list", "lo", "--run-id", run, "--format", "json"))["runs"][0]["status"]

    def wait(self, run, seconds=600):
        """Until the run has ended. How long that takes is not judged; that it ends is."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            state = self.state(run)
            if state.startswith("finished"):
                return state
            time.sleep(5)
        raise AssertionError(f"run {run} has not ended: {self.log('superlink')[-4000:]}")
