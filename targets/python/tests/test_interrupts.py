"""Ctrl-C, at any moment of a lesson: how long it takes, and that the lesson goes on to the same bytes."""

import os
import pathlib
import pty
import random
import signal
import subprocess
import sys
import time

from place import ASSETS, BUNDLE, TRAIN, InFolder, files, needs_assets

import srlora

HERE = pathlib.Path(__file__).parent
LIMIT = 2.0
"""Seconds from Ctrl-C to KeyboardInterrupt. It takes less than 0.2 where the machine has nothing else to do; times gate nothing else."""


class Interrupts(InFolder):
    def lesson(self, bundle, data, store, *words, after=None):
        """Runs it, presses Ctrl-C `after` seconds; what it says at last, and the seconds that it took to end then."""
        command = [sys.executable, HERE / "interrupted.py", bundle, data, store, *words]
        process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertEqual(process.stdout.readline(), "begin\n")
        pressed = None
        if after is not None:
            time.sleep(after)
            pressed = time.monotonic()
            process.send_signal(signal.SIGINT)
        told, errors = process.communicate()
        self.assertEqual((process.returncode, errors), (0, ""), told)
        last = told.split(maxsplit=2)
        return last, float(last[1]) - pressed if last[0] == "interrupted" else None

    def every(self, bundle, data, seconds, moments):
        """Interrupts at `moments` within `seconds`; each time the lesson goes on to the bytes of one that was not interrupted."""
        whole = self.folder / "whole"
        self.assertEqual(self.lesson(bundle, data, whole)[0], ["ended", "None"])
        expected, took, causes, rng = files(whole), [], [], random.Random(0)
        for nth in range(moments):
            store = self.folder / f"{nth}"
            last, seconds_taken = self.lesson(bundle, data, store, after=seconds * (nth + rng.random()) / moments)
            if seconds_taken is not None:
                took.append(seconds_taken)
                causes.append(last[2])
            last, _ = self.lesson(bundle, data, store, "resume")
            self.assertEqual(last[0], "ended")
            self.assertEqual(files(store), expected, causes[-1:])
        return took, causes

    def test_a_small_lesson_is_interrupted_at_any_moment(self):
        took, causes = self.every(BUNDLE, TRAIN, 0.25, 8)
        self.says(f"interrupted {len(took)} times, {max(took, default=0) * 1e3:.0f} ms at most")
        self.assertLess(max(took, default=0), LIMIT)

    @needs_assets
    def test_a_lesson_of_mobilenet_is_interrupted_at_any_moment(self):
        bundle, data = self.folder / "mobilenet.bundle", self.folder / "photos"
        model = ASSETS / "models/mobilenetv2_1.0_224_int8_qdq_ort.onnx"
        srlora.pack(model, bundle, preset="torchvision")
        flowers = {}
        for photo in sorted((ASSETS / "data/flowers500").rglob("*.jpg")):
            flowers.setdefault(photo.parent.name, []).append(photo)
        for name, photos in flowers.items():
            (data / name).mkdir(parents=True)
            for photo in photos[:8]:
                (data / name / photo.name).symlink_to(photo)
        begin = time.monotonic()
        srlora.train(bundle, data, self.folder / "first", epochs=3)
        seconds = time.monotonic() - begin
        took, causes = self.every(bundle, data, seconds, 8)
        in_steps = sum("after step" in cause for cause in causes)
        self.says(
            f"MobileNetV2, a lesson of {seconds:.1f} s: interrupted {len(took)} times, {in_steps} of them after a step, "
            f"{max(took) * 1e3:.0f} ms at most, {sorted(took)[len(took) // 2] * 1e3:.0f} ms in the median"
        )
        self.assertGreater(in_steps, 0)
        self.assertLess(max(took), LIMIT)

    def test_a_handler_of_one_s_own_is_called_and_what_it_raises_comes_out(self):
        class Alarm(Exception):
            pass

        def handler(_signal, _frame):
            raise Alarm

        before = signal.signal(signal.SIGALRM, handler)
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with self.assertRaises(Alarm):
            srlora.train(BUNDLE, TRAIN, self.folder / "a", epochs=1000)

    def test_no_handler_is_installed_and_nothing_is_written(self):
        code = (
            "import signal, sys, srlora\n"
            "def handlers():\n"
            "    status = open('/proc/self/status').read()\n"
            # Those below 32: the C library's threads have two of their own.
            "    caught = int(status.split('SigCgt:')[1].split()[0], 16) & ((1 << 31) - 1)\n"
            "    return caught, [signal.getsignal(n) for n in signal.valid_signals()]\n"
            "before = handlers()\n"
            "srlora.train(*sys.argv[1:4], epochs=2)\n"
            "srlora.Classifier(sys.argv[1], sys.argv[3]).predict(sys.argv[4])\n"
            "assert before == handlers(), (before, handlers())\n"
        )
        photo = sorted(TRAIN.glob("*/*.png"))[0]
        done = subprocess.run(
            [sys.executable, "-c", code, BUNDLE, TRAIN, self.folder / "a", photo], capture_output=True, check=False
        )
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"", b""))

    def terminal(self, code, *arguments):
        """What a process writes to stderr where that is a terminal."""
        leader, follower = pty.openpty()
        process = subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stderr=follower)
        os.close(follower)
        told = b""
        try:
            while part := os.read(leader, 4096):
                told += part
        except OSError:  # the other end is closed
            pass
        os.close(leader)
        self.assertEqual(process.wait(), 0, told)
        return told.decode()

    def test_a_bar_is_drawn_on_a_terminal_and_taken_away(self):
        code = "import sys, srlora; srlora.train(*sys.argv[1:4], epochs=4, progress=sys.argv[4] == 'bar')"
        told = self.terminal(code, BUNDLE, TRAIN, self.folder / "a", "bar")
        self.assertIn("train 32/32 [", told)
        self.assertIn("loss", told)
        self.assertTrue(told.endswith("\r\x1b[K"), repr(told[-80:]))
        self.assertEqual(self.terminal(code, BUNDLE, TRAIN, self.folder / "b", "none"), "")
