"""Links from assets to their code, in real repositories."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets.images import container_image
from ml_assets.source_links import with_source_links

MODULE = """\
import dagster as dg
import pandas as pd

from ml_assets.datasets import dataset


@dataset(group_name="made")
def ours() -> pd.DataFrame:
    return pd.DataFrame()


@dg.asset
def plain() -> None: ...
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project in a folder of a repository, with everything committed."""
    folder = tmp_path / "repository" / "project"
    (folder / "pipeline").mkdir(parents=True)
    (folder / "pipeline" / "made.py").write_text(MODULE)
    (folder / ".gitignore").write_text("__pycache__/\n")
    git(folder.parent, "init", "--quiet")
    commit(folder.parent)
    return folder


@pytest.fixture
def definitions(project: Path, resources: dict[str, Any]) -> Iterator[dg.Definitions]:
    name = "source_links_made"
    spec = importlib.util.spec_from_file_location(name, project / "pipeline" / "made.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    image = container_image("train", dockerfile="Dockerfile.train", sources=("pipeline",))
    yield dg.Definitions(assets=[module.ours, module.plain, image, dg.AssetSpec("external")], resources=resources)
    del sys.modules[name]


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.com"]
    done = subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(repository: Path) -> str:
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", "all")
    return git(repository, "rev-parse", "HEAD")


def links(definitions: dg.Definitions, root: Path) -> dict[str, list[str]]:
    linked = with_source_links(definitions, root)
    return {
        spec.key.to_user_string(): [
            reference.source for reference in spec.metadata["dagster/code_references"].code_references
        ]
        for spec in linked.resolve_all_asset_specs()
        if "dagster/code_references" in spec.metadata
    }


def test_without_a_known_host_the_file_on_this_machine_is_linked(project: Path, definitions: dg.Definitions) -> None:
    expected = {
        "ours": [f"{project}/pipeline/made.py:7"],
        "plain": [f"{project}/pipeline/made.py:12"],
        "images/train": [f"{project}/Dockerfile.train"],
    }
    assert links(definitions, project) == expected
    git(project, "remote", "add", "origin", "https://git.example/owner/repository.git")
    assert links(definitions, project) == expected


@pytest.mark.parametrize(
    ("remote", "files"),
    [
        ("git@github.com:owner/repository.git", "https://github.com/owner/repository/blob"),
        ("https://gitlab.example/owner/repository.git", "https://gitlab.example/owner/repository/-/blob"),
    ],
)
def test_a_clean_checkout_links_to_the_line_at_its_commit(
    project: Path, definitions: dg.Definitions, remote: str, files: str
) -> None:
    git(project, "remote", "add", "origin", remote)
    at = git(project, "rev-parse", "HEAD")
    assert links(definitions, project) == {
        "ours": [f"{files}/{at}/project/pipeline/made.py#L7"],
        "plain": [f"{files}/{at}/project/pipeline/made.py#L12"],
        "images/train": [f"{files}/{at}/project/Dockerfile.train"],
    }


def test_a_dirty_checkout_links_to_its_own_files(project: Path, definitions: dg.Definitions) -> None:
    git(project, "remote", "add", "origin", "git@github.com:owner/repository.git")
    (project / "new.py").write_text("new = 1\n")
    assert links(definitions, project)["ours"] == [f"{project}/pipeline/made.py:7"]


def test_an_image_links_to_the_commit_that_it_was_built_from(
    project: Path, definitions: dg.Definitions, tmp_path: Path
) -> None:
    """An image contains no repository; a file records what was built."""
    (project.parent / ".git").rename(tmp_path / "away")
    source = {"commit": "c" * 40, "dirty": False, "repository": "https://github.com/owner/repository"}
    (project / "source.json").write_text(json.dumps(source))
    address = f"https://github.com/owner/repository/blob/{'c' * 40}/pipeline/made.py#L7"
    assert links(definitions, project)["ours"] == [address]


def test_an_unreadable_repository_does_not_keep_assets_from_loading(project: Path, definitions: dg.Definitions) -> None:
    (project.parent / ".git" / "HEAD").write_text("broken")
    assert links(definitions, project)["ours"] == [f"{project}/pipeline/made.py:7"]


def test_code_references_of_the_author_are_kept(project: Path) -> None:
    reference = {"dagster/code_references": "mine"}
    kept = with_source_links(dg.Definitions(assets=[dg.AssetSpec("a", metadata=reference)]), project)
    (spec,) = kept.resolve_all_asset_specs()
    assert spec.metadata == reference

    @dg.asset(metadata=reference)
    def made() -> None: ...

    (spec,) = with_source_links(dg.Definitions(assets=[made]), project).resolve_all_asset_specs()
    assert spec.metadata["dagster/code_references"] == "mine"


def test_a_graph_asset_links_to_the_function_that_composes_it(project: Path) -> None:
    @dg.op
    def one() -> int:
        return 1

    @dg.graph_asset
    def composed() -> int:
        return one()  # type: ignore[no-any-return]

    (place,) = links(dg.Definitions(assets=[composed]), project)["composed"]
    assert place.startswith(f"{__file__}:")
