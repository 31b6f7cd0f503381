"""A device of a fleet as Flower's ClientApp."""

from typing import Callable, Dict, List, Mapping, Optional, cast

import srlora
from flwr.app import Context, Message, MetricRecord, MetricRecordValues, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import Mod
from srlora import types

from .average import Refused
from .device import HELD_BACK, Device, rate
from .records import CONFIG, METRICS, Value, config_record, flag, fleet_of, number, text, update_record, whole


def device(node_config: Mapping[str, object]) -> Device:
    """The device that a SuperNode's `--node-config` describes: `bundle`, `photos` and `store`, each a path; `held-back`, a share.

    Raises `ValueError`, naming what is missing.
    """
    paths = [text(node_config, name) for name in ("bundle", "photos", "store")]
    return Device(paths[0], paths[1], paths[2], number({"held-back": HELD_BACK, **node_config}, "held-back"))


def client_app(mods: Optional[List[Mod]] = None) -> ClientApp:
    """A ClientApp that learns from the photos of the node that it runs on.

    | message | does | answers |
    |---|---|---|
    | `query` | counts photos | `classes`, `photos` of each, `bundle` |
    | `train.imprint` | imprints the head | its rows, and pairs at their start |
    | `train` | one lesson from the fleet's arrays | b, the rows of its own classes, and a where it was trained |
    | `evaluate` | takes the fleet's arrays, if they are no worse | `accuracy` on the photos held back, and whether they were kept aside |

    What srlora refuses is told in the answer as `refused`, so that the server can name it. `mods` are Flower's.
    """
    app = ClientApp(mods=mods)

    @app.query()
    def query(message: Message, context: Context) -> Message:
        def work() -> RecordDict:
            own = device(context.node_config)
            counts = own.classes()
            config: Dict[str, Value] = {"bundle": own.bundle.sha256, "classes": list(counts), "photos": list(counts.values())}
            return RecordDict({CONFIG: config_record(config)})

        return answered(message, work)

    @app.train("imprint")
    def imprint(message: Message, context: Context) -> Message:
        def work() -> RecordDict:
            config = message.content.config_records[CONFIG]
            update = device(context.node_config).imprint(cast(types.Pairs, text(config, "pairs")))
            return update_record(update, flag(config, "half"))

        return answered(message, work)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        def work() -> RecordDict:
            config = message.content.config_records[CONFIG]
            settings = lesson_settings(config)
            longest = number(config, "clip")
            update = device(context.node_config).learn(fleet_of(message.content), settings, longest or None)
            return update_record(update, flag(config, "half"))

        return answered(message, work)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        def work() -> RecordDict:
            own = device(context.node_config)
            taken = own.take(fleet_of(message.content))
            photos, accuracy = own.measure()
            metrics: Dict[str, MetricRecordValues] = {
                "num-examples": photos,
                "accuracy": accuracy,
                "kept-aside": int(taken.kept_aside),
                "tried-on": taken.tried_on,
                "before": taken.before,
                "after": taken.after,
                "generation": taken.generation,
            }
            return RecordDict({METRICS: MetricRecord(metrics)})

        return answered(message, work)

    return app


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
