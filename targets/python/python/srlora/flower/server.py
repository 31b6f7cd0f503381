"""The server of a fleet: Flower's ServerApp, and the strategy that it runs."""

import time
from logging import INFO, WARNING
from pathlib import Path
from typing import Dict, Iterable, List, Optional, Tuple

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, MetricRecord, MetricRecordValues, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Result, Strategy

from . import average, privacy
from .average import Fleet, Refused, Update
from .files import gone_on_from, keep, read, save
from .records import (
    CONFIG,
    METRICS,
    NOT_TAKEN,
    Value,
    array_record,
    bytes_of,
    config_record,
    counted,
    fleet_record,
    measured,
    update_of,
)
from .settings import FleetSettings
from .wire import fleet_as_sent

MOST_SAID = 500
"""Letters of what a device says that go into the log."""


class FleetStrategy(Strategy):
    """Agrees on classes, then averages what devices learn: see `srlora.flower.average`. What it refuses, it names, and goes on."""

    def __init__(self, settings: FleetSettings) -> None:
        self.settings = settings
        self.fleet: Optional[Fleet] = None
        self.photos = 0
        self.done = 0
        self.moved: average.Arrays = {}
        self.asked: List[int] = []
        self.refused: List[str] = []
        self.learned = False
        """Whether any round had an update to average."""
        self.random = np.random.default_rng()

    # --- before the first round ---------------------------------------------------------------------------------------------

    def prepare(self, grid: Grid) -> ArrayRecord:
        """Asks all devices for their classes, then for what they imprint: the fleet before its first lesson.

        Raises `ValueError` for a file that cannot be gone on from, or would be lost, before any device is asked.
        """
        earlier = self._earlier()
        counts: Dict[int, Dict[str, int]] = {}
        for message in self._ask(grid, MessageType.QUERY, RecordDict({CONFIG: config_record({"asks": "classes"})})):
            node = message.metadata.src_node_id
            try:
                counts[node] = counted(message.content)
            except (KeyError, ValueError) as error:
                self._refuse(0, f"the classes of node {node} are refused: {error}")
        classes = average.agree(counts)
        self.photos = sum(average.weights([sum(own.values()) for own in counts.values()], self.settings.most_weight)) if counts else 0
        for node, own in sorted(counts.items()):
            missing = [name for name in classes if name not in own]
            log(INFO, "node %d: %d photos, %s", node, sum(own.values()), f"without {', '.join(missing)}" if missing else "of all classes")
        log(INFO, "agreed on %d classes: %s", len(classes), ", ".join(classes))
        content = RecordDict({CONFIG: config_record({"pairs": self.settings.pairs, "precision": self.settings.precision})})
        updates: List[Update] = []
        for message in self._ask(grid, f"{MessageType.TRAIN}.imprint", content):
            try:
                updates.append(update_of(message))
            except Refused as error:
                self._refuse(0, str(error))
        fleet, refused = average.begin(classes, updates, self.settings.most_weight) if updates else (None, [])
        for each in refused:
            self._refuse(0, str(each))
        updates = [update for update in updates if update.node not in {each.node for each in refused}]
        if fleet is None or not updates:
            raise RuntimeError("no device has imprinted anything: see what was refused above")
        imprinted = [name for name in classes if any(name in update.classes for update in updates)]
        if imprinted != classes:
            self._refuse(0, f"no device has imprinted {', '.join(name for name in classes if name not in imprinted)}: left out")
            fleet = fleet._replace(classes=imprinted, arrays=average.rows_of(fleet, imprinted))
        if self.settings.noise:
            fleet = privacy.noised_start(fleet, updates, self.settings.noise, self.random)
        if earlier:
            fleet, after = gone_on_from(earlier, fleet)
            if self.settings.resume:
                self.done = after
                log(INFO, "%s: is after round %d of %d", earlier, self.done, self.settings.rounds)
        return self._settled(fleet, self.done)

    def _earlier(self) -> Optional[Path]:
        """The file of an earlier run that this one goes on from, where there is one."""
        s, output = self.settings, Path(self.settings.output)
        goes_on = s.output if s.resume and output.exists() else s.start
        if goes_on:
            read(Path(goes_on))
        if s.output and output.exists() and goes_on != s.output:
            raise ValueError(f"{output}: is there already; go on from it with `resume` or `start`, or give another `output`")
        return Path(goes_on) if goes_on else None

    def _settled(self, fleet: Fleet, after_round: int) -> ArrayRecord:
        """The fleet as it will arrive, from now on the server's too; it is kept where that was asked for."""
        self.fleet = fleet._replace(arrays=fleet_as_sent(fleet.arrays, self.settings.precision))
        if self.settings.output:
            save(self.fleet, Path(self.settings.output), after_round)
        return array_record(self.fleet.arrays, self.settings.precision)

    def _ask(self, grid: Grid, kind: str, content: RecordDict) -> List[Message]:
        messages = [Message(content, dst_node_id=node, message_type=kind) for node in self._nodes(grid)]
        replies = grid.send_and_receive(messages, timeout=self.settings.round_timeout)
        return self._sound(0, replies)

    def _nodes(self, grid: Grid) -> List[int]:
        """All devices that are there, in ascending order, once there are enough."""
        while len(nodes := sorted(grid.get_node_ids())) < self.settings.min_nodes:
            log(INFO, "waiting for devices: %d of %d are there", len(nodes), self.settings.min_nodes)
            time.sleep(1)
        self.asked = nodes
        return nodes

    def _sound(self, server_round: int, replies: Iterable[Message]) -> List[Message]:
        """Replies that are answers; who has failed, or has not answered, is named.

        Of a node that is gone, the SuperLink tells in its own name; so it is among those that were asked and are not among the others.
        """
        sound: List[Message] = []
        silent, gone = set(self.asked), "it has not answered in time"
        for message in replies:
            node = message.metadata.src_node_id
            if message.has_error():
                reason = ((message.error.reason or "").strip() or "it does not say why").splitlines()[-1][:MOST_SAID]
                if node in silent:
                    self._refuse(server_round, f"node {node} has failed: {reason}")
                else:
                    gone = reason
                silent.discard(node)
                continue
            silent.discard(node)
            config = message.content.config_records.get(CONFIG)
            if config is not None and "refused" in config:
                self._refuse(server_round, f"node {node} has nothing to send: {str(config['refused'])[:MOST_SAID]}")
                continue
            sound.append(message)
        for node in sorted(silent):
            self._refuse(server_round, f"node {node} has failed: {gone}")
        return sorted(sound, key=lambda message: message.metadata.src_node_id)

    def _refuse(self, server_round: int, reason: str) -> None:
        # Devices have written part of it: it stays one line of the log.
        reason = "".join(letter if letter.isprintable() else " " for letter in reason)
        self.refused.append(f"round {server_round}: {reason}")
        log(WARNING, "round %d: %s", server_round, reason)

    # --- a round ------------------------------------------------------------------------------------------------------------

    def _known(self) -> Fleet:
        if self.fleet is None:
            raise RuntimeError("no fleet yet: call prepare() first")
        return self.fleet

    def _messages(self, grid: Grid, server_round: int, kind: str) -> Iterable[Message]:
        number = self.done + server_round
        settings: Dict[str, Value] = {
            "server-round": number,
            "take": number > 1,
            "fleet-photos": self.photos,
            "pairs": self.settings.pairs,
            "epochs": self.settings.epochs,
            "clip": self.settings.clip,
            "precision": self.settings.precision,
        }
        content = fleet_record(self._known(), settings)
        return [Message(content, dst_node_id=node, message_type=kind) for node in self._nodes(grid)]

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """The fleet to all devices."""
        return self._messages(grid, server_round, MessageType.TRAIN)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> Tuple[Optional[ArrayRecord], Optional[MetricRecord]]:
        """The mean of what has come and can be meant; and what devices tell of the mean before it."""
        fleet, number = self._known(), self.done + server_round
        sound = self._sound(number, replies)
        tried = self._tried(number - 1, [message for message in sound if METRICS in message.content])
        updates: List[Update] = []
        sizes: List[int] = []
        for message in sound:
            try:
                update = update_of(message, fleet)
                average.check(update, fleet, self.settings.clip or float("inf"))
                updates.append(update)
                sizes.append(bytes_of(message))
            except Refused as error:
                self._refuse(number, str(error))
            config = message.content.config_records.get(CONFIG)
            if config is not None and NOT_TAKEN in config:
                why = str(config[NOT_TAKEN])[:MOST_SAID]
                self._refuse(number, f"the store of node {message.metadata.src_node_id} does not take the mean: {why}")
        self.learned = self.learned or bool(updates)
        if not updates:
            log(WARNING, "round %d: nothing has come that can be averaged; the fleet stays as it was", number)
            return None, None
        mean = self._mean(number, fleet, updates)
        if self.settings.pairs == "one-sided":
            mean = average.carried_on(mean, self.moved, self.settings.momentum)
        record = self._settled(mean, number)
        self.moved = average.move(fleet, self._known())
        if self.settings.keep:
            keep(Path(self.settings.keep) / f"round-{number:03}", updates, fleet, self._known())
        told: Dict[str, MetricRecordValues] = {"devices": len(updates), "photos": sum(update.examples for update in updates)}
        told.update({"bytes-up": max(sizes), "bytes-down": sum(len(array.data) for array in record.values())})
        return record, MetricRecord({**told, **{f"last-mean-{name}": value for name, value in tried.items()}})

    def _mean(self, number: int, fleet: Fleet, updates: List[Update]) -> Fleet:
        s = self.settings
        if s.noise:
            return privacy.noised_mean(fleet, updates, (s.clip, s.noise), self.random)
        for update, count in zip(updates, average.weights([update.examples for update in updates], s.most_weight)):
            if count < update.examples:
                log(WARNING, "round %d: node %d claims %d photos; it counts with %d, %g times the device in the middle (`most-weight`)",
                    number, update.node, update.examples, count, s.most_weight)  # fmt: skip
        return average.mean(fleet, updates, s.residual, s.most_weight)

    def configure_evaluate(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """The last mean to all devices, which try it. The others are tried when the next lesson begins."""
        if self.done + server_round >= self.settings.rounds:
            return self._messages(grid, server_round, MessageType.EVALUATE)
        self.asked = []
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> Optional[MetricRecord]:
        """Accuracy over all photos held back, and how many devices have kept the mean aside."""
        number = self.done + server_round
        return MetricRecord(told) if (told := self._tried(number, self._sound(number, replies))) else None

    def _tried(self, number: int, replies: Iterable[Message]) -> Dict[str, MetricRecordValues]:
        """What devices tell of the mean of round `number`."""
        photos: List[int] = []
        shares: List[float] = []
        aside = 0
        for message in replies:
            try:
                of = measured(message.content)
            except (KeyError, ValueError) as error:
                self._refuse(number, f"what node {message.metadata.src_node_id} tells of the mean is refused: {error}")
                continue
            photos.append(int(of["num-examples"]))
            shares.append(of["accuracy"])
            if of["kept-aside"]:
                aside += 1
                # As in any trial, a class of which less than half is left is reason enough.
                why = "" if of["after"] < of["before"] else ", but a class is lost"
                log(INFO, "round %d: node %d keeps the mean aside: %.1f %% of %d photos, and its store %.1f %%%s", number,
                    message.metadata.src_node_id, 100 * of["after"], of["tried-on"], 100 * of["before"], why)  # fmt: skip
        if not photos:
            return {}
        counts = average.weights(photos, self.settings.most_weight)  # nobody can count what a device claims here either
        accuracy = sum(count * share for count, share in zip(counts, shares)) / max(sum(counts), 1)
        return {"devices": len(photos), "photos": sum(counts), "kept-aside": aside, "accuracy": accuracy}

    def summary(self) -> None:
        """What is averaged, and what is promised."""
        s = self.settings
        exact = "exact: a is the bundle's, and b and the head are averaged"
        both = "products, " + ("with what their mean leaves out in the delta" if s.residual else "without what their mean leaves out")
        log(INFO, "\taverages: %s", exact if s.pairs == "one-sided" else both)
        log(INFO, "\tclipped to: %s", s.clip or "nothing")
        if s.noise:
            epsilon = privacy.epsilon(s.noise, s.rounds + 1, s.delta)
            log(INFO, "\tnoise: z = %.3f; epsilon %.3f at delta %g over %d rounds and the imprinting", s.noise, epsilon, s.delta, s.rounds)
        else:
            log(INFO, "\tnoise: none, so nothing is promised of what the mean tells of one device")

    def run(self, grid: Grid) -> Result:
        """All of it: agree, imprint, `rounds` lessons, or those that are left."""
        arrays = self.prepare(grid)
        left = max(self.settings.rounds - self.done, 0)
        result = self.start(grid, arrays, num_rounds=left, timeout=self.settings.round_timeout)
        if not left:  # the run was cut after its last round: devices may not have its mean yet
            asked = self.configure_evaluate(0, arrays, ConfigRecord(), grid)
            self.aggregate_evaluate(0, grid.send_and_receive(asked, timeout=self.settings.round_timeout))
        elif not self.learned:
            raise RuntimeError("no round had an update that could be averaged: see what was refused above")
        return result


def server_app() -> ServerApp:
    """A ServerApp that runs `FleetStrategy` with the settings of the run's configuration."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        FleetStrategy(FleetSettings.of(context.run_config)).run(grid)

    return app
