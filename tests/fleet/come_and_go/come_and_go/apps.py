"""The example's apps. A device writes its node's number to a file `node`, and misses the rounds that a file `misses` names."""

from pathlib import Path

from srlora.flower import client_app, server_app


def come_and_go(message, context, call_next):
    here = Path(context.run_config["devices"]) / str(context.node_config["partition-id"])
    (here / "node").write_text(str(context.node_id))
    config = message.content.config_records.get("config", {})
    if message.metadata.message_type == "train" and str(config["server-round"]) in (here / "misses").read_text().split():
        raise ConnectionError("this device misses the round")
    return call_next(message, context)


client = client_app(mods=[come_and_go])
server = server_app()
