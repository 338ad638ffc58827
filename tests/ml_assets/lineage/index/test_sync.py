"""The index agrees with the log, however the log grows, loses events and shows them late."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.lineage.graph import Node, NodeKind
from ml_assets.lineage.index.dagster_inputs import DagsterInput
from ml_assets.lineage.index.databases import MemoryDatabase
from ml_assets.lineage.index.event_parser import ParsedEvent, StepImage
from ml_assets.lineage.index.index import LineageIndex
from ml_assets.lineage.questions import Question
from ml_assets.resources.errors import LineageError
from ml_assets.resources.provenance import ArtifactKind, InputVersion
from tests.ml_assets.lineage.index.indexed import require_equal, whole_graph
from tests.ml_assets.lineage.index.made_up import MadeUpLog
from tests.ml_assets.lineage.index.reference import ReferenceGraph

ASSETS, PARTITIONS, VERSIONS = ["a", "b", "c/d"], [None, "01", "02"], ["v0", "v1", "v2"]
IMAGES = [f"sha256:{letter * 64}" for letter in "ef"]
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class History:
    """A log and its changes, with everything that was ever recorded, so that inputs may reference deleted events."""

    random: Random
    gives_ids_again: bool
    log: MadeUpLog = field(default_factory=MadeUpLog)
    recorded: list[ParsedEvent] = field(default_factory=list)
    hidden: list[ParsedEvent] = field(default_factory=list)
    highest: int = 0
    clock: int = 0

    def happen(self) -> None:
        self.clock += 1
        self.random.choice([self.write] * 5 + [self.write_late, self.show, self.delete_run, self.wipe])()

    def write(self) -> None:
        self.recorded.append(self._event())
        self.log.write(self.recorded[-1:])

    def write_late(self) -> None:
        self.recorded.append(self._event())
        self.hidden.append(self.recorded[-1])

    def show(self) -> None:
        if self.hidden:
            self.log.write([self.hidden.pop(self.random.randrange(len(self.hidden)))])

    def delete_run(self) -> None:
        if self.log.events:
            run = self.random.choice(list(self.log.events.values())).node.dagster_run
            self._keep(lambda event: event.node.dagster_run != run)

    def wipe(self) -> None:
        asset = self.random.choice(ASSETS)
        self.log.wiped[asset] = self._now()
        if self.gives_ids_again:
            self._keep(lambda event: event.node.asset != asset)

    def _keep(self, stays: Callable[[ParsedEvent], bool]) -> None:
        self.log.events = {key: event for key, event in self.log.events.items() if stays(event)}

    def _now(self) -> datetime:
        return START + timedelta(seconds=self.clock)

    def _event(self) -> ParsedEvent:
        if self.gives_ids_again:
            self.highest = max([*self.log.events, *(event.storage_id for event in self.hidden)], default=0)
        self.highest += 1
        node = Node(
            asset=self.random.choice(ASSETS),
            kind=self.random.choice([ArtifactKind.MODEL, ArtifactKind.IMAGE, NodeKind.ASSET, NodeKind.OBSERVATION]),
            partition=self.random.choice(PARTITIONS),
            data_version=self.random.choice([*VERSIONS, None]),
            storage_id=self.highest,
            image=f"registry/train@{self.random.choice(IMAGES)}",
            dagster_run=f"run {self.random.choice([self.clock, self.clock // 4 + 1000])}",
            timestamp=self._now(),
        )
        inputs = [self._input() for _ in range(self.random.randrange(4))]
        dagster_inputs = [self._dagster_input() for _ in range(self.random.randrange(2))]
        return ParsedEvent(node, tuple(inputs), tuple(dagster_inputs), self._image())

    def _image(self) -> StepImage | None:
        digest = self.random.choice([None, *IMAGES])
        return StepImage(self.random.choice(ASSETS), frozenset({digest})) if digest else None

    def _input(self) -> InputVersion:
        if self.recorded and self.random.random() < 0.7:
            read = self.random.choice(self.recorded)
            is_pinned = self.random.random() < 0.3
            return InputVersion(
                asset=read.node.asset,
                partition=read.node.partition,
                data_version=read.node.data_version or "v0",
                storage_id=None if is_pinned else read.storage_id,
                run_id=None if is_pinned else read.node.dagster_run,
            )
        return InputVersion(
            asset=self.random.choice(ASSETS),
            partition=self.random.choice(PARTITIONS),
            data_version=self.random.choice(VERSIONS),
            storage_id=self.random.choice([None, self.random.randint(1, self.highest + 1)]),
            run_id=self.random.choice([None, "run 1"]),
        )

    def _dagster_input(self) -> DagsterInput:
        asset = self.random.choice(ASSETS)
        nodes = [each.node for each in self.recorded if each.node.asset == asset]
        latest = {node.partition: node.data_version or "" for node in nodes if node.partition}
        combined = sha256("".join(latest[partition] for partition in sorted(latest)).encode()).hexdigest()
        newest = max((key for node in nodes if (key := node.storage_id or 0) < self.highest), default=0)
        return DagsterInput(asset, self.random.choice([*VERSIONS, combined]), newest)


@pytest.mark.parametrize("gives_ids_again", [False, True], ids=["ids grow", "ids are given again"])
@given(random=st.randoms(use_true_random=False), lookback=st.sampled_from([1, 3, 1000]))
@settings(max_examples=40, deadline=None)
def test_the_index_follows_the_log(gives_ids_again: bool, random: Random, lookback: int) -> None:
    history = History(random, gives_ids_again)
    index = LineageIndex(history.log, MemoryDatabase(), pytest.fail)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ml_assets.lineage.index.sync._LOOKBACK", lookback)
        patch.setattr("ml_assets.lineage.index.schema._BATCH_SIZE", random.choice([1, 2, 500]))
        for _ in range(random.randint(1, 25)):
            history.happen()
            if random.random() < 0.3:
                require_equal(whole_graph(index), history.log.graph())
        require_equal(whole_graph(index), history.log.graph())
        for text in ("a", "b@01", "c/d@02", "v1", f"run {random.randint(1, 9)}", *whole_graph(index).nodes):
            require_same_answer(index, history.log.graph(), text)


def require_same_answer(index: LineageIndex, expected: ReferenceGraph, text: str) -> None:
    try:
        trace = expected.trace(text)
    except LineageError as refused:
        with pytest.raises(type(refused), match=re.escape(refused.what)):
            index.trace(Question(text))
        return
    found = index.trace(Question(text))
    require_equal(found.graph, trace.graph)
    assert set(found.starts) == set(trace.starts)
    assert (found.upstream, found.downstream) == (trace.upstream, trace.downstream)
