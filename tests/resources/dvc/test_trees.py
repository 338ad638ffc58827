"""Trees of files, copied to and from a real S3 server and a directory."""

import os
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from ml_assets.resources.dvc.trees import Tree
from ml_assets.resources.errors import RemoteUnreachable
from tests.ports import free_port

KEYS = {"access_key_id": "tests", "secret_access_key": "tests", "region": "us-east-1"}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    moto.start()
    yield "http://{}:{}".format(*moto.get_host_and_port())
    moto.stop()


@pytest.fixture(params=["s3", "directory"])
def tree(request: pytest.FixtureRequest, server: str, tmp_path: Path) -> Tree:
    if request.param == "directory":
        return Tree(str(tmp_path / "remote"), {})
    bucket = f"bucket-{os.urandom(4).hex()}"
    client = boto3.client(
        "s3",
        endpoint_url=server,
        aws_access_key_id="tests",
        aws_secret_access_key="tests",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket=bucket)
    return Tree(f"s3://{bucket}/some/prefix", {"endpointurl": server, **KEYS})


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        file = folder / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def read(folder: Path) -> dict[str, str]:
    return {file.relative_to(folder).as_posix(): file.read_text() for file in folder.rglob("*") if file.is_file()}


def test_files_come_back_as_they_were(tree: Tree, tmp_path: Path) -> None:
    folder = write(tmp_path / "from", one="1", deep__er__two="22")
    assert tree.restore(folder) == (2, 3, 2)
    assert tree.save(tmp_path / "to") == (2, 3, 2)
    assert read(tmp_path / "to") == {"one": "1", "deep/er/two": "22"}


def test_nothing_is_nothing(tree: Tree, tmp_path: Path) -> None:
    assert tree.save(tmp_path / "to") == (0, 0, 0)
    assert tree.restore(tmp_path / "nowhere") == (0, 0, 0)


def test_only_what_is_new_or_changed_is_copied_again(tree: Tree, tmp_path: Path) -> None:
    tree.restore(write(tmp_path / "from", same="1", grows="1"))
    tree.save(tmp_path / "to")
    assert tree.save(tmp_path / "to").copied == 0
    tree.restore(write(tmp_path / "later", grows="12", new="3"))
    assert tree.save(tmp_path / "to") == (3, 4, 2)
    assert read(tmp_path / "to") == {"same": "1", "grows": "12", "new": "3"}


def test_half_a_file_is_copied_again(tree: Tree, tmp_path: Path) -> None:
    tree.restore(write(tmp_path / "from", file="whole"))
    write(tmp_path / "to", **{"file.unfinished": "who"})
    assert tree.save(tmp_path / "to") == (1, 5, 1)
    assert read(tmp_path / "to") == {"file": "whole"}
    assert tree.restore(tmp_path / "to") == (1, 5, 0)


def test_progress_is_told(tree: Tree, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    tree.restore(write(tmp_path / "from", one="1", two="2"), lambda done, of: told.append((done, of)))
    assert told == [(0, 2), (1, 2), (2, 2)]


def test_server_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    tree = Tree("s3://bucket/tree", {"endpointurl": f"http://127.0.0.1:{free_port()}", **KEYS})
    with pytest.raises(RemoteUnreachable, match="s3://bucket/tree did not answer"):
        tree.save(tmp_path / "to")
