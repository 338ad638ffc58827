"""Upstream and downstream of a node, to the requested depth."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ml_assets.lineage.graph import Node, NodeKind
from ml_assets.lineage.index.databases import SqliteDatabase
from ml_assets.lineage.index.index import LineageIndex
from ml_assets.lineage.questions import Question
from ml_assets.resources.errors import LineageError
from ml_assets.resources.provenance import ArtifactKind
from tests.ml_assets.lineage.index.indexed import index_of
from tests.ml_assets.lineage.index.made_up import START, MadeUpLog, ids, made, md5, node, read
from tests.ml_assets.lineage.index.reference import Event


@pytest.mark.parametrize("kind", [ArtifactKind.DATASET, NodeKind.ASSET, NodeKind.OBSERVATION])
@pytest.mark.parametrize("name", ["raw", "raw@01"])
def test_what_came_from_an_asset_came_from_each_event_that_gave_what_it_is_now(
    kind: ArtifactKind | NodeKind, name: str
) -> None:
    raw = [node(n, "raw", md5(v), partition="01", kind=kind) for n, v in [(1, "a"), (3, "b"), (5, "a")]]
    others = [node(6, "raw", md5("a"), partition="02", kind=kind), node(7, "raw", md5("b"), partition="02", kind=kind)]
    copy = node(8, "copy", md5("a"), partition="01", kind=kind)
    readers = [node(2, "model"), node(4, "report")]
    events = [*map(Event, [*raw, *others, copy]), *(Event(r, (read(s),)) for r, s in zip(readers, raw, strict=False))]
    graph = index_of(events)
    made = graph.ask(Question(name, up=False)).graph.nodes.keys()
    assert made - {"raw@02#7"} == {"raw@01#1", "model#2", "raw@01#5"}
    assert graph.ask(Question(name, down=False)).graph.nodes.keys() - {"raw@02#7"} == {"raw@01#5"}
    assert graph.ask(Question("raw@01#5", up=False)).graph.nodes.keys() == {"raw@01#5"}


def test_what_is_upstream_of_an_asset_is_upstream_of_its_latest_event_alone() -> None:
    seeds = [node(1, "seed", md5("1")), node(3, "seed", md5("3"))]
    raw = [Event(node(n, "raw", md5("a")), (read(seed),)) for n, seed in zip((2, 4), seeds, strict=True)]
    trace = index_of([*map(Event, seeds), *raw, Event(node(5, "model"), (read(raw[0].node),))]).trace("raw")
    assert trace.upstream == {"seed#3", "raw#4"}
    assert trace.downstream == {"raw#2", "raw#4", "model#5"}


def test_what_was_made_in_an_image_was_made_in_each_equal_rebuild_of_it() -> None:
    def built(storage_id: int, digit: str, repository: str = "train") -> Node:
        image = f"registry.example/{repository}@sha256:{digit * 64}"
        return node(storage_id, "images/train", "environment", kind=ArtifactKind.IMAGE, image=image)

    images = [built(1, "7"), built(3, "8"), built(5, "7", "moved")]
    readers = [Event(node(n, "model"), (read(image),)) for n, image in zip((2, 4), images, strict=False)]
    graph = index_of([*map(Event, images), *readers])
    answer = graph.ask(Question("images/train", up=False))
    assert answer.graph.nodes.keys() == {"images/train#1", "model#2", "images/train#5"}


def test_what_was_made_of_a_wiped_event_was_made_of_its_equal_successor() -> None:
    gone = node(1, "raw", md5("a"), dagster_run="r1")
    graph = index_of([Event(node(2, "model"), (read(gone),)), Event(node(3, "raw", md5("a")))])
    assert graph.ask(Question("raw", up=False)).graph.nodes.keys() == {"raw#1", "model#2", "raw#3"}


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        (Question("model", down=False), ["raw#1", "table#2", "model#3"]),
        (Question("model", up=False), ["model#3", "report#4"]),
        (Question("model", depth=1), ["table#2", "model#3", "report#4"]),
        (Question("model", depth=0), ["model#3"]),
        (Question("raw", depth=2), ["raw#1", "table#2", "model#3"]),
        (Question("raw", kinds=frozenset({ArtifactKind.MODEL})), ["model#3"]),
        (Question("raw", depth=1, kinds=frozenset({ArtifactKind.MODEL})), []),
        (Question("raw", since=START + timedelta(days=3)), ["model#3", "report#4"]),
    ],
    ids=str,
)
def test_a_question_is_answered_with_what_it_asks_for(
    index: LineageIndex, question: Question, expected: list[str]
) -> None:
    assert ids(index.trace(question)) == expected


def test_an_answer_beyond_the_limit_is_refused(index: LineageIndex) -> None:
    assert len(ids(index.trace(Question("raw", limit=4)))) == 4
    for question in (Question("raw", limit=3), Question("raw", limit=2, depth=3), Question("raw", limit=0)):
        with pytest.raises(LineageError, match=r"'raw' has more than \d nodes. Next: narrow the question"):
            index.trace(question)


def test_what_cannot_be_read_is_not_left_out_in_silence(index: LineageIndex) -> None:
    log = index._log
    assert isinstance(log, MadeUpLog)
    problem = LineageError("the record is malformed", next_step="wipe it")
    unreadable = replace(made(6, "late", log.events[3]).node, kind=NodeKind.UNREADABLE, problem=problem)
    log.write([replace(made(6, "late", log.events[3]), node=unreadable)])
    with pytest.raises(LineageError, match=r"the record is malformed\. Next: wipe it"):
        index.trace(Question("raw", kinds=frozenset({ArtifactKind.IMAGE})))


def test_a_chain_as_long_as_a_history_is_walked(file: Path) -> None:
    log = MadeUpLog()
    last = made(1, "state")
    log.write([last])
    for number in range(2, 3000):
        last = made(number, "state", last)
        log.write([last])
    index = LineageIndex(log, SqliteDatabase(file), pytest.fail)
    assert len(ids(index.trace(Question("v1")))) == 2999
