"""Trees of files, copied to and from a real S3 server and a directory."""

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
    s3(server).create_bucket(Bucket=bucket)
    return Tree(f"s3://{bucket}/some/prefix", {"endpointurl": server, **KEYS})


def s3(server: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=server,
        aws_access_key_id="tests",
        aws_secret_access_key="tests",
        region_name="us-east-1",
    )


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
    assert tree.restore(folder)[:3] == (2, 3, 2)
    assert tree.save(tmp_path / "to")[:3] == (2, 3, 2)
    assert read(tmp_path / "to") == {"one": "1", "deep/er/two": "22"}


def test_nothing_is_nothing(tree: Tree, tmp_path: Path) -> None:
    assert tree.save(tmp_path / "to")[:3] == (0, 0, 0)
    assert tree.restore(tmp_path / "nowhere")[:3] == (0, 0, 0)


def test_only_what_is_new_or_changed_is_copied_again(tree: Tree, tmp_path: Path) -> None:
    tree.restore(write(tmp_path / "from", same="1", grows="1"))
    tree.save(tmp_path / "to")
    assert tree.save(tmp_path / "to").copied == 0
    tree.restore(write(tmp_path / "later", grows="12", new="3"))
    assert tree.save(tmp_path / "to")[:3] == (3, 4, 2)
    assert read(tmp_path / "to") == {"same": "1", "grows": "12", "new": "3"}


def test_half_a_file_is_copied_again(tree: Tree, tmp_path: Path) -> None:
    tree.restore(write(tmp_path / "from", file="whole"))
    write(tmp_path / "to", **{"file.unfinished": "who"})
    assert tree.save(tmp_path / "to")[:3] == (1, 5, 1)
    assert read(tmp_path / "to") == {"file": "whole"}
    assert tree.restore(tmp_path / "to")[:3] == (1, 5, 0)


def test_progress_is_told(tree: Tree, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    tree.restore(write(tmp_path / "from", one="1", two="2"), progress=lambda done, of: told.append((done, of)))
    assert told == [(0, 2), (1, 2), (2, 2)]


def test_server_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    tree = Tree("s3://bucket/tree", {"endpointurl": f"http://127.0.0.1:{free_port()}", **KEYS}, 0.1)
    with pytest.raises(RemoteUnreachable, match="s3://bucket/tree did not answer"):
        tree.save(tmp_path / "to")


def altered_object(size: int) -> tuple[str, str, str]:
    good, bad = "good".ljust(size, "."), "bad!".ljust(size, ".")
    md5 = hashlib.md5(good.encode()).hexdigest()
    return f"files__md5__{md5[:2]}__{md5[2:]}", good, bad


def test_damaged_object_replaces_no_intact_copy_in_either_direction(tree: Tree, tmp_path: Path) -> None:
    name, good, bad = altered_object(10)
    file = name.replace("__", "/")
    tree.restore(write(tmp_path / "deployment", **{name: good}))
    tree.save(tmp_path / "backup")
    damage(tree, file, bad)
    saved = tree.save(tmp_path / "backup")
    assert (saved.damaged, saved.copied, saved.files) == ((file,), 0, 1)
    assert read(tmp_path / "backup") == {file: good}
    tree.restore(tmp_path / "backup")
    assert tree.save(tmp_path / "other")[:3] == (1, 10, 1)
    assert read(tmp_path / "other") == {file: good}


def test_damaged_object_without_an_intact_copy_is_not_saved(tree: Tree, tmp_path: Path) -> None:
    name, _, bad = altered_object(10)
    tree.restore(write(tmp_path / "deployment", plain="text", **{name: bad}))
    saved = tree.save(tmp_path / "backup")
    assert (saved.damaged, saved.files) == ((name.replace("__", "/"),), 1)
    assert read(tmp_path / "backup") == {"plain": "text"}


def test_each_file_has_a_checksum_that_is_kept_while_the_file_is(tree: Tree, tmp_path: Path) -> None:
    name, good, _ = altered_object(10)
    tree.restore(write(tmp_path / "deployment", plain="text", **{name: good}))
    sums = {
        "plain": hashlib.md5(b"text").hexdigest(),
        name.replace("__", "/"): hashlib.md5(good.encode()).hexdigest(),
    }
    assert tree.save(tmp_path / "backup").checksums == sums
    assert tree.save(tmp_path / "backup", {"plain": "as before"}).checksums == sums | {"plain": "as before"}


def test_key_that_leads_outside_the_folder_is_not_copied(server: str, tmp_path: Path) -> None:
    client, bucket = s3(server), f"bucket-{os.urandom(4).hex()}"
    client.create_bucket(Bucket=bucket)
    for key in ("tree/good", "tree/../../outside", "tree/a//b"):
        client.put_object(Bucket=bucket, Key=key, Body=b"content")
    saved = Tree(f"s3://{bucket}/tree", {"endpointurl": server, **KEYS}).save(tmp_path / "deep" / "to")
    assert saved.damaged == ("../../outside", "a//b")
    assert read(tmp_path) == {"deep/to/good": "content"}


def damage(tree: Tree, file: str, text: str) -> None:
    """Alter a file on the other side, at equal size and later."""
    files, root = tree._opened
    if files.protocol == "local":
        (Path(root) / file).write_text(text)
        os.utime(Path(root) / file, (2e9, 2e9))
    else:
        time.sleep(1)  # S3's times have whole seconds.
        files.pipe_file(f"{root}/{file}", text.encode())
