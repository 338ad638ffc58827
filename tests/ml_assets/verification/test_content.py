"""Damaged and missing objects are named, with the places that hold intact copies."""

import hashlib
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from ml_assets.datasets import dataset
from ml_assets.lineage import DeletionLog
from ml_assets.resources.dvc.directory import Condition
from ml_assets.resources.dvc.store import DvcStore
from ml_assets.resources.identity import Digest
from ml_assets.verification.content import FolderPlace, recorded_contents, verify

MEMBERS = {"a": b"aa", "b": b"bb", "c": b"cc"}


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def places(tmp_path: Path) -> tuple[dict[str, list[str]], FolderPlace, FolderPlace]:
    """A directory dataset, its remote, and a cache that holds it too."""
    (tmp_path / "data").mkdir()
    for name, content in MEMBERS.items():
        (tmp_path / "data" / name).write_bytes(content)
    store = DvcStore(remote=str(tmp_path / "remote"), cache=str(tmp_path / "cache"))
    version = Digest.parse(store.put(tmp_path / "data").version)
    store.fetch(version)
    return (
        {version.value: ["images@a#1"]},
        FolderPlace("remote", tmp_path / "remote"),
        FolderPlace("cache", tmp_path / "cache"),
    )


def damage(place: FolderPlace, value: str, content: bytes | None) -> None:
    file = place.folder / "files" / "md5" / value[:2] / value[2:]
    file.unlink()
    if content is not None:
        file.write_bytes(content)


def test_intact_content_has_no_problem(places: tuple[dict[str, list[str]], FolderPlace, FolderPlace]) -> None:
    contents, remote, cache = places
    told: list[tuple[int, int]] = []
    found = verify(contents, remote, [cache], progress=lambda done, whole: told.append((done, whole)))
    assert (found.contents, found.objects, found.problems, found.unlisted) == (1, 4, (), ())
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_damaged_and_missing_objects_are_named_with_their_remedy(
    places: tuple[dict[str, list[str]], FolderPlace, FolderPlace],
) -> None:
    contents, remote, cache = places
    damage(remote, md5(b"aa"), b"xx")
    damage(remote, md5(b"bb"), None)
    damage(remote, md5(b"cc"), b"")
    damage(cache, md5(b"cc"), b"cx")
    found = {each.value: each for each in verify(contents, remote, [cache]).problems}
    assert {value: (each.condition, each.repairable_from) for value, each in found.items()} == {
        md5(b"aa"): (Condition.DAMAGED, ("cache",)),
        md5(b"bb"): (Condition.MISSING, ("cache",)),
        md5(b"cc"): (Condition.DAMAGED, ()),
    }
    assert found[md5(b"aa")].of == ("images@a#1",)
    [problem] = verify(contents, cache, [remote], is_partial=True).problems
    assert (problem.value, problem.repairable_from) == (md5(b"cc"), ())


def test_files_of_a_damaged_listing_are_known_from_another_place(
    places: tuple[dict[str, list[str]], FolderPlace, FolderPlace],
) -> None:
    contents, remote, cache = places
    [listing] = contents
    damage(remote, listing, b"[]")
    found = verify(contents, remote, [cache])
    assert ([each.value for each in found.problems], found.objects, found.unlisted) == ([listing], 4, ())
    damage(cache, listing, None)
    found = verify(contents, remote, [cache])
    assert ([each.value for each in found.problems], found.objects, found.unlisted) == ([listing], 1, (listing,))
    assert verify(contents, cache, [], is_partial=True).unlisted == ()


@dataset()
def table() -> pd.DataFrame:
    return pd.DataFrame({"value": [1]})


def test_recorded_content_is_verified_until_it_is_deleted(
    resources: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    result = dg.materialize([table], instance=instance, resources=resources)
    (event,) = result.asset_materializations_for_node("table")
    version = (event.tags or {})["dagster/data_version"]
    [(value, [node])] = recorded_contents(instance).items()
    assert (f"md5:{value}", node.split("#")[0]) == (version, "table")
    DeletionLog(instance).add([version], pd.Timestamp.now("UTC").to_pydatetime())
    assert recorded_contents(instance) == {}
