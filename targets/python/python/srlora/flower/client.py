"""A device of a fleet as Flower's ClientApp."""

from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional, cast

import srlora
from flwr.app import Context, Message, MetricRecord, MetricRecordValues, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import Mod
from srlora import types

from .average import Fleet, Refused
from .device import HELD_BACK, Device, rate
from .records import CONFIG, METRICS, NOT_TAKEN, Value, config_record, flag, fleet_of, number, precision, text, update_record, whole


PATHS = ("bundle", "photos", "store")
"""What a node's configuration names."""


def device(context: Context) -> Device:
    """The device that a SuperNode's `--node-config` describes: `bundle`, `photos` and `store`, each a path; `held-back`, a share.

    A simulated node has no such configuration, only a `partition-id`. The run's then names the `bundle`, and a folder `devices` that has
    `<partition-id>/photos` and gets `<partition-id>/store`. A node that names any path is never told another by a run.

    Raises `ValueError`, naming what is missing.
    """
    config: Dict[str, object] = {"held-back": HELD_BACK, **context.node_config}
    if context.run_config.get("devices") and "partition-id" in config and not any(name in config for name in PATHS):
        place = Path(text(context.run_config, "devices")) / str(whole(config, "partition-id"))
        config.update({"bundle": text(context.run_config, "bundle"), "photos": str(place / "photos"), "store": str(place / "store")})
    for name in PATHS:
        if not config.get(name):
            raise ValueError(f"`{name}` is missing: a node's `--node-config` names a `bundle`, `photos` and a `store`")
    bundle, photos, store = (Path(text(config, name)).expanduser() for name in PATHS)
    return Device(bundle, photos, store, number(config, "held-back"))


def client_app(mods: Optional[List[Mod]] = None) -> ClientApp:
    """A ClientApp that learns from the photos of the node that it runs on.

    | message | does | answers |
    |---|---|---|
    | `query` | counts photos | `classes`, `photos` of each, `bundle` |
    | `train.imprint` | imprints the head | its rows, and pairs at their start |
    | `train` | takes the fleet's arrays, if they are no worse, and takes one lesson from them | b, the rows of its own classes, a where it was trained; and what `evaluate` answers |
    | `evaluate` | takes the fleet's arrays, if they are no worse | `accuracy` on the photos held back, and whether they were kept aside |

    In the first round there is no mean of lessons yet, and `train` takes nothing. Each mean goes to a device once that way, and starts
    one process there.

    What srlora refuses is told in the answer as `refused`, so that the server can name it. `mods` are Flower's.
    """
    app = ClientApp(mods=mods)

    @app.query()
    def query(message: Message, context: Context) -> Message:
        def work() -> RecordDict:
            own = device(context)
            counts = own.classes()
            config: Dict[str, Value] = {"bundle": own.bundle.sha256, "classes": list(counts), "photos": list(counts.values())}
            return RecordDict({CONFIG: config_record(config)})

        return answered(message, work)

    @app.train("imprint")
    def imprint(message: Message, context: Context) -> Message:
        def work() -> RecordDict:
            config = message.content.config_records[CONFIG]
            update = device(context).imprint(cast(types.Pairs, text(config, "pairs")))
            return update_record(update, None, precision(config))

        return answered(message, work)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return answered(message, lambda: learned(device(context), message.content))

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return answered(message, lambda: RecordDict({METRICS: taken(device(context), fleet_of(message.content))}))

    return app


def learned(own: Device, content: RecordDict) -> RecordDict:
    """Takes a fleet's arrays, where that was asked for, and learns from them: what a device sends back."""
    config, fleet = content.config_records[CONFIG], fleet_of(content)
    told: Optional[MetricRecord] = None
    not_taken = ""
    if flag(config, "take"):
        try:
            told = taken(own, fleet)
        except srlora.Error as error:  # no reason not to learn for the others
            not_taken = f"{type(error).__name__}: {error}"
    update = own.learn(fleet, lesson_settings(config), number(config, "clip") or None)
    answer = update_record(update, fleet, precision(config))
    if told is not None:
        answer[METRICS] = told
    elif not_taken:
        answer.config_records[CONFIG][NOT_TAKEN] = not_taken
    return answer


def taken(own: Device, fleet: Fleet) -> MetricRecord:
    """Takes a fleet's arrays, if they are no worse: what a device tells of that."""
    of = own.take(fleet)
    photos, accuracy = own.measure()
    metrics: Dict[str, MetricRecordValues] = {
        "num-examples": photos,
        "accuracy": accuracy,
        "kept-aside": int(of.kept_aside),
        "tried-on": of.tried_on,
        "before": of.before,
        "after": of.after,
        "generation": of.generation,
    }
    return MetricRecord(metrics)


def lesson_settings(config: Mapping[str, object]) -> types.Settings:
    """The settings of a round's lesson. Each round has a seed of its own, or photos would always come in the same order."""
    pairs = cast(types.Pairs, text(config, "pairs"))
    return {
        "pairs": pairs,
        "lr": rate(pairs, whole(config, "fleet-photos")),
        "epochs": whole(config, "epochs"),
        "seed": whole(config, "server-round"),
    }


def answered(message: Message, work: Callable[[], RecordDict]) -> Message:
    """What `work` answers; or, where srlora or a configuration refuses, why."""
    try:
        content = work()
    except (srlora.Error, Refused, ValueError) as error:
        refused: Dict[str, Value] = {"refused": f"{type(error).__name__}: {error}"}
        content = RecordDict({CONFIG: config_record(refused)})
    return Message(content, reply_to=message)
