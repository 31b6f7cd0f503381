"""The example's apps. A device may misbehave: `misbehaves` in its node's configuration says how, `in-round` when."""

import time
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord
from srlora.flower import client_app, server_app


def misbehave(message, context, call_next):
    """After the lesson, what is sent is spoiled; or nothing is sent for a while, so that the node can be killed."""
    reply = call_next(message, context)
    config = message.content.config_records.get("config", {})
    how = context.node_config.get("misbehaves", "")
    if not how or message.metadata.message_type != "train" or config.get("server-round") != context.node_config.get("in-round", 2):
        return reply
    if how == "hangs":
        Path(context.node_config["store"]).with_name("hangs").touch()
        time.sleep(600)
    arrays = {key: array.numpy() for key, array in reply.content.array_records["arrays"].items()}
    key = sorted(key for key in arrays if key.endswith("/b"))[0]
    if how == "nan":
        arrays[key] = np.where(np.arange(arrays[key].size).reshape(arrays[key].shape) == 3, np.float32("nan"), arrays[key])
    if how == "far":
        arrays[key] = arrays[key] + np.float32(1000)
    if how == "shape":
        arrays[key] = arrays[key][:-1]
    if how == "missing":
        del arrays[key]
    if how == "classes":
        reply.content.config_records["config"]["classes"] = ["eleven"]
    reply.content.array_records["arrays"] = ArrayRecord({key: Array(array) for key, array in arrays.items()})
    return reply


client = client_app(mods=[misbehave])
server = server_app()
