"""Answers report deleted content."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ml_assets.lineage.index.databases import SqliteDatabase
from ml_assets.lineage.index.index import LineageIndex
from ml_assets.lineage.questions import NODE_LIMIT, Question
from tests.ml_assets.lineage.index.made_up import START, MadeUpLog, made


def test_a_collected_version_may_have_more_bearers_than_an_answer(file: Path) -> None:
    empty = f"md5:{0:032}"
    events = [made(number, f"asset{number}") for number in range(1, NODE_LIMIT + 2)]
    log = MadeUpLog()
    log.write(replace(each, node=replace(each.node, data_version=empty)) for each in events)
    index = LineageIndex(log, SqliteDatabase(file), pytest.fail)
    newest = START + timedelta(days=events[-1].storage_id)
    for moment, expected in {newest: newest, newest - timedelta(seconds=1): None}.items():
        trace = index.trace(Question("asset1"), lambda versions, moment=moment: dict.fromkeys(versions, moment))
        assert [node.deleted_at for node in trace.graph.nodes.values()] == [expected]
