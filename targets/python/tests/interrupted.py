"""A lesson that is interrupted: run by test_interrupts.py as a process of its own.

    interrupted.py BUNDLE DATA STORE [resume]

Says `begin` when it begins, and `interrupted TIME CAUSE` when KeyboardInterrupt has come out, with the system's monotonic clock.
"""

import signal
import sys
import time

import srlora

# Whoever starts the tests in the background has SIGINT ignored; Python then takes no notice of it.
signal.signal(signal.SIGINT, signal.default_int_handler)
bundle, data, store = sys.argv[1:4]
print("begin", flush=True)
try:
    report = srlora.train(bundle, data, store, epochs=3, resume="resume" in sys.argv)
except KeyboardInterrupt as interrupt:
    now = time.monotonic()
    print("interrupted", now, repr(str(interrupt.__cause__)), flush=True)
else:
    print("ended", report["resumed_after"], flush=True)
