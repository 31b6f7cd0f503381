"""The example's apps. Devices misbehave: `misbehaves` in a node's configuration says how and when, as in "2:nan 3:waits-to-answer"."""

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import srlora
from flwr.app import Array, ArrayRecord
from srlora.flower import client_app, server_app

BILLION = 1_000_000_000


def wait(context, where):
    """Nothing more comes from here, so that the process can be killed; or until there is a file `go-on`."""
    here = Path(context.node_config["store"]).parent
    (here / where).touch()
    until = time.monotonic() + 600
    while time.monotonic() < until and not (here / "go-on").exists():
        time.sleep(0.2)


def wait_in_lesson(context):
    """After the third step of the lesson."""
    learn = srlora.train

    def train(*args, **settings):
        return learn(*args, callback=lambda event: event.get("step") != 3 or wait(context, "waits-in-lesson"), **settings)

    srlora.train = train


def die_in_adoption():
    """A thread kills the process while the store takes the mean: at its beginning, or later; it must not matter."""
    take = srlora.adopt

    def adopt(bundle, trained, store, **photos):
        if photos:
            threading.Timer(0.01, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
        return take(bundle, trained, store, **photos)

    srlora.adopt = adopt


def misbehave(message, context, call_next):
    """How this device misbehaves in this round, if it does."""
    config = message.content.config_records.get("config", {})
    told = dict(each.split(":") for each in str(context.node_config.get("misbehaves", "")).split())
    how, kind = told.get(str(config.get("server-round", "")), ""), message.metadata.message_type
    if kind != ("evaluate" if how in ("waits-to-evaluate", "dies-in-adoption") else "train"):
        return call_next(message, context)
    if how in ("waits-to-begin", "waits-to-evaluate"):
        wait(context, how)
    if how == "waits-in-lesson":
        wait_in_lesson(context)
    if how == "dies-in-adoption":
        die_in_adoption()
    reply = call_next(message, context)
    if how == "waits-to-answer":
        wait(context, how)
    return spoiled(reply, how)


def spoiled(reply, how):
    """A reply with something wrong in it."""
    record = reply.content.array_records["arrays"]
    arrays = {key: array.numpy() for key, array in record.items()}
    key = min(key for key in arrays if key.endswith("/b"))
    if how == "nan":
        arrays[key + "/scales"][1] = np.nan
    if how == "far":
        arrays[key + "/scales"][:] = 100
    if how == "shape":
        arrays[key] = arrays[key][:-1]
    if how == "missing":
        del arrays[key]
    if how == "classes":
        reply.content.config_records["config"]["classes"] = ["eleven"]
    if how == "claims":
        photos = reply.content.config_records["config"]["photos"]
        reply.content.config_records["config"]["photos"] = [BILLION] * len(photos)
    reply.content.array_records["arrays"] = ArrayRecord({key: Array(array) for key, array in arrays.items()})
    return reply


client = client_app(mods=[misbehave])
server = server_app()
