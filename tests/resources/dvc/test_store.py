"""The content store on directories, a real S3 server, a real full disk and real ``dvc``."""

import errno
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import boto3
import pandas as pd
import pytest
from moto.server import ThreadedMotoServer

from ml_assets.resources.dvc import directory as dvc_directory
from ml_assets.resources.dvc import scan
from ml_assets.resources.dvc.directory import Condition, ObjectDirectory
from ml_assets.resources.dvc.scan import listing
from ml_assets.resources.dvc.store import DvcStore
from ml_assets.resources.errors import (
    ContentCorrupt,
    ContentMissing,
    InputError,
    RemoteUnreachable,
    SchemaError,
    SettingsError,
    StoreError,
    StoreFull,
)
from ml_assets.resources.identity import Digest
from ml_assets.resources.provenance import Content

_KEYS = {"access_key_id": "test", "secret_access_key": "test", "region": "us-east-1"}
_MEMBERS = {"a.bin": b"a" * 5000, "empty": b"", "deep/er/ünï cødé.txt": b"text\r\n", "deep/twin": b"a" * 5000}


@pytest.fixture
def store(tmp_path: Path) -> DvcStore:
    return DvcStore(remote=str(tmp_path / "remote"), cache=str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return _write(tmp_path / "data", _MEMBERS)


@pytest.mark.parametrize("name", ["a b", "x#1", "x?1", "y%20z", "c:d"])
@pytest.mark.parametrize("scheme", ["", "file://", "file://localhost"])
def test_directory_of_a_remote_is_read_literally(scheme: str, name: str, tmp_path: Path) -> None:
    place = tmp_path / "remotes" / name
    store = DvcStore(remote=f"{scheme}{place}", cache=str(tmp_path / "cache" / name))
    (tmp_path / "data").write_text("content")
    content = store.put(tmp_path / "data")
    assert (place / "files" / "md5" / content.version[4:6] / content.version[6:]).read_text() == "content"
    assert list((tmp_path / "remotes").iterdir()) == [place]


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_store(s3_endpoint: str, tmp_path: Path) -> DvcStore:
    client = _s3(s3_endpoint)
    client.create_bucket(Bucket=tmp_path.name.replace("_", "-").lower())
    client.close()
    bucket = tmp_path.name.replace("_", "-").lower()
    options = {"endpointurl": s3_endpoint, **_KEYS}
    return DvcStore(remote=f"s3://{bucket}/store", options=options, cache=str(tmp_path / "cache"))


def test_file_is_kept_under_its_md5(store: DvcStore, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    md5 = hashlib.md5(b"content").hexdigest()
    assert store.put(file) == Content(format="file", version=f"md5:{md5}", size=7, files=1)
    kept = tmp_path / "remote" / "files" / "md5" / md5[:2] / md5[2:]
    assert kept.read_bytes() == b"content"
    assert kept.stat().st_mode & 0o777 == 0o444


def test_directory_is_kept_as_dvc_add_and_push_keep_it(
    store: DvcStore, folder: Path, tmp_path: Path, dvc: "_Dvc"
) -> None:
    content = store.put(folder)
    dvc("remote", "add", "-d", "store", str(tmp_path / "theirs"))
    _write(dvc.folder / "data", _MEMBERS)
    dvc("add", "data")
    dvc("push")
    assert f"md5: {_version(content).value}\n" in (dvc.folder / "data.dvc").read_text()
    assert _objects(tmp_path / "remote") == _objects(tmp_path / "theirs")
    assert (content.size, content.files) == (10006, 4)


def test_empty_directory_is_kept_as_dvc_keeps_it(store: DvcStore, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    content = store.put(tmp_path / "empty")
    assert content.version == "md5:d751713988987e9331980363e24189ce.dir"
    assert list(store.fetch(_version(content)).iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_dvc_pull_restores_content_from_directory(kind: str, store: DvcStore, folder: Path, dvc: "_Dvc") -> None:
    source = folder if kind == "directory" else folder / "a.bin"
    dvc("remote", "add", "-d", "store", store.remote)
    _assert_pulled(store, source, dvc)


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_dvc_pull_restores_content_from_s3(kind: str, s3_store: DvcStore, folder: Path, dvc: "_Dvc") -> None:
    source = folder if kind == "directory" else folder / "a.bin"
    dvc("remote", "add", "-d", "store", s3_store.remote)
    for option, value in s3_store.options.items():
        dvc("remote", "modify", "store", option, value)
    _assert_pulled(s3_store, source, dvc)


def test_content_dvc_pushed_is_fetched(store: DvcStore, dvc: "_Dvc") -> None:
    dvc("remote", "add", "-d", "store", store.remote)
    _write(dvc.folder / "data", _MEMBERS)
    dvc("add", "data")
    dvc("push")
    version = Digest("md5", (dvc.folder / "data.dvc").read_text().split("md5: ")[1].split()[0])
    assert store.has(version)
    assert _read(store.fetch(version)) == _MEMBERS


def test_content_comes_back_from_s3_with_an_empty_cache(s3_store: DvcStore, folder: Path, tmp_path: Path) -> None:
    version = _version(s3_store.put(folder))
    other = s3_store.model_copy(update={"cache": str(tmp_path / "other")})
    assert other.has(version)
    assert _read(other.fetch(version)) == _MEMBERS
    assert not other.has(Digest("md5", "0" * 32))


def test_altered_and_missing_objects_in_s3_are_told(s3_store: DvcStore, s3_endpoint: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    version = _version(s3_store.put(tmp_path / "file"))
    other = s3_store.model_copy(update={"cache": str(tmp_path / "other")})
    with pytest.raises(ContentMissing, match="0" * 32):
        other.fetch(Digest("md5", "0" * 32))
    bucket, _, prefix = s3_store.remote.removeprefix("s3://").partition("/")
    key = f"{prefix}/files/md5/{version.hex[:2]}/{version.hex[2:]}"
    client = _s3(s3_endpoint)
    client.put_object(Bucket=bucket, Key=key, Body=b"cut")
    client.close()
    with pytest.raises(ContentCorrupt, match=version.hex[2:]):
        other.fetch(version)
    assert _objects(tmp_path / "other") == {}
    s3_store.put(tmp_path / "file")
    assert other.fetch(version).read_bytes() == b"content"


def test_s3_bucket_that_is_not_there_is_refused(s3_store: DvcStore, folder: Path) -> None:
    nowhere = s3_store.model_copy(update={"remote": "s3://no-such-bucket/store"})
    with pytest.raises(RemoteUnreachable, match="no-such-bucket"):
        nowhere.put(folder)


def test_server_that_is_not_there_is_unreachable(tmp_path: Path, folder: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        options = {"endpointurl": endpoint, **_KEYS}
        cache = str(tmp_path / "cache")
        store = DvcStore(remote="s3://bucket/store", options=options, cache=cache, retry_seconds=0.1)
        with pytest.raises(RemoteUnreachable, match="s3://bucket/store"):
            store.put(folder)


def test_directory_remote_that_is_not_there_is_unreachable(store: DvcStore) -> None:
    with pytest.raises(RemoteUnreachable, match="does not exist"):
        store.fetch(Digest("md5", "0" * 32))
    with pytest.raises(RemoteUnreachable, match="does not exist"):
        store.has(Digest("md5", "0" * 32))


@pytest.mark.parametrize("remote", ["data/remote", "./remote", ""])
def test_relative_remote_is_refused(remote: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="absolute"):
        DvcStore(remote=remote, cache=str(tmp_path))


@pytest.mark.parametrize(
    ("remote", "options"),
    [("/remote", {"endpointurl": "x"}), ("s3://bucket", {"endpoint": "x"}), ("gopher://host/x", {})],
)
def test_options_that_dvc_does_not_take_are_refused(
    remote: str, options: dict[str, str], tmp_path: Path, folder: Path
) -> None:
    with pytest.raises(SettingsError):
        DvcStore(remote=remote, options=options, cache=str(tmp_path / "cache")).put(folder)


def test_password_in_url_is_not_shown(tmp_path: Path, folder: Path) -> None:
    store = DvcStore(remote="gopher://user:secret@host/x", cache=str(tmp_path / "cache"))
    with pytest.raises(SettingsError, match="user@host") as raised:
        store.put(folder)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("damage", [lambda file: b"", lambda file: b"x" * len(file), lambda file: file + b"x"])
@pytest.mark.parametrize("suffix", ["", ".dir"])
def test_damaged_object_is_refused_and_repaired_by_storing_again(
    damage: Callable[[bytes], bytes], suffix: str, store: DvcStore, folder: Path, tmp_path: Path
) -> None:
    version = _version(store.put(folder))
    value = version.value if suffix else hashlib.md5(_MEMBERS["a.bin"]).hexdigest()
    place = tmp_path / "remote" / "files" / "md5" / value[:2] / value[2:]
    place.chmod(0o644)
    place.write_bytes(damage(place.read_bytes()))
    with pytest.raises(ContentCorrupt, match=value[2:]) as raised:
        store.fetch(version)
    assert str(tmp_path / "remote") in str(raised.value)
    for found, content in _objects(tmp_path / "cache").items():
        assert hashlib.md5(content).hexdigest() == found.removesuffix(".dir")
    store.put(folder)
    assert _read(store.fetch(version)) == _MEMBERS


def test_missing_member_is_told_and_repaired_by_storing_again(store: DvcStore, folder: Path, tmp_path: Path) -> None:
    version = _version(store.put(folder))
    value = hashlib.md5(_MEMBERS["a.bin"]).hexdigest()
    (tmp_path / "remote" / "files" / "md5" / value[:2] / value[2:]).unlink()
    assert not store.has(version)
    with pytest.raises(ContentMissing, match=value):
        store.fetch(version)
    store.put(folder)
    assert _read(store.fetch(version)) == _MEMBERS


def test_cached_content_that_was_written_to_is_fetched_again(store: DvcStore, folder: Path) -> None:
    version = _version(store.put(folder))
    tree = store.fetch(version)
    (tree / "a.bin").chmod(0o644)
    (tree / "a.bin").write_bytes(b"b" * 5000)
    (tree / "extra").write_bytes(b"")
    assert _read(store.fetch(version)) == _MEMBERS


@pytest.mark.parametrize("content", [b"", b"b" * 5000], ids=["cut", "of equal size"])
def test_cached_content_that_was_altered_under_the_same_time_stamp_is_fetched_again(
    content: bytes, store: DvcStore, folder: Path
) -> None:
    version = _version(store.put(folder))
    file = Digest("md5", hashlib.md5(_MEMBERS["a.bin"]).hexdigest())
    for place in (store.fetch(version) / "a.bin", store.fetch(file)):
        place.chmod(0o644)
        stamp = place.stat().st_mtime_ns
        place.write_bytes(content)
        os.utime(place, ns=(stamp, stamp))
        assert _read(store.fetch(version)) == _MEMBERS
        assert store.fetch(file).read_bytes() == _MEMBERS["a.bin"]


def test_object_that_was_altered_under_the_same_time_stamp_heals_when_it_is_stored_again(
    store: DvcStore, folder: Path, tmp_path: Path
) -> None:
    store.put(folder)
    value = hashlib.md5(_MEMBERS["a.bin"]).hexdigest()
    place = tmp_path / "remote" / "files" / "md5" / value[:2] / value[2:]
    place.chmod(0o644)
    stamp = place.stat().st_mtime_ns
    place.write_bytes(b"b" * 5000)
    os.utime(place, ns=(stamp, stamp))
    store.put(_write(tmp_path / "again", _MEMBERS))
    assert place.read_bytes() == _MEMBERS["a.bin"]


def test_verified_content_is_not_read_again(store: DvcStore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _version(store.put(folder))
    (folder / "new").write_bytes(b"new")
    second = _version(store.put(folder))
    for version in (first, second, first, second):
        store.fetch(version)
    values = {hashlib.md5(content).hexdigest() for content in [*_MEMBERS.values(), b"new"]}
    read: list[str] = []
    original = ObjectDirectory.condition

    def condition(self: ObjectDirectory, value: str) -> Condition:
        read.append(value)
        return original(self, value)

    monkeypatch.setattr(ObjectDirectory, "condition", condition)
    for version in (first, second):
        store.fetch(version)
    assert values.isdisjoint(read)


@pytest.mark.parametrize(
    "entry",
    [
        {"md5": "../../../victim", "relpath": "a"},
        {"md5": None, "relpath": "a"},
        {"md5": "0" * 32, "relpath": "a\0b"},
        {"md5": "0" * 32, "relpath": "../a"},
    ],
    ids=["path as hash", "no hash", "NUL", "outside"],
)
def test_listing_of_a_stranger_is_refused_before_anything_is_read_or_written(
    entry: dict[str, Any], store: DvcStore, folder: Path, tmp_path: Path
) -> None:
    good = _version(store.put(folder))
    (tmp_path / "victim").write_text("secret")
    content = json.dumps([entry]).encode()
    version = Digest("md5", hashlib.md5(content).hexdigest() + ".dir")
    _write(tmp_path / "remote" / "files" / "md5" / version.value[:2], {version.value[2:]: content})
    before = {file for file in tmp_path.rglob("*") if "cache" not in file.parts}
    for ask in (store.fetch, store.has, lambda version: store.checkout(version, tmp_path / "copy")):
        with pytest.raises(ContentCorrupt, match=version.value):
            ask(version)
    assert {file for file in tmp_path.rglob("*") if "cache" not in file.parts} == before
    assert {file.name for file in (tmp_path / "cache").iterdir()} <= {
        "files",
        "state",
        "receipts",
        "remotes",
        ".incoming",
    }
    found = store.listings([version.value, good.value])
    assert set(found.damaged) == {version.value}
    assert found.files[good.value] == {hashlib.md5(each).hexdigest() for each in _MEMBERS.values()}


def test_remote_whose_disk_is_not_mounted_is_refused_for_writing_too(
    store: DvcStore, folder: Path, tmp_path: Path
) -> None:
    version = _version(store.put(folder))
    (tmp_path / "remote").rename(tmp_path / "unmounted")
    for mount_point in (False, True):
        if mount_point:
            (tmp_path / "remote").mkdir()
        for use in (store.put, lambda _: store.opened().held(), lambda _: store.opened().write_note("note", b"")):
            with pytest.raises(RemoteUnreachable, match=r"Next: mount it.* if it was deleted on purpose, also delete"):
                use(folder)
        assert not (tmp_path / "remote" / "files").exists()
    (tmp_path / "remote").rmdir()
    (tmp_path / "unmounted").rename(tmp_path / "remote")
    assert _version(store.put(folder)) == version


def test_executable_files_and_empty_folders_in_a_directory_are_refused(store: DvcStore, folder: Path) -> None:
    (folder / "a.bin").chmod(0o755)
    with pytest.raises(StoreError, match=r"a\.bin is executable, .* Next: run `find"):
        store.put(folder)
    (folder / "a.bin").chmod(0o644)
    (folder / "deep" / "hollow").mkdir()
    with pytest.raises(StoreError, match=r"deep/hollow is an empty folder, .* Next: remove it, or put a file"):
        store.put(folder)


def test_object_is_synced_before_it_has_its_name(
    store: DvcStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[tuple[str, str]] = []
    rename, fsync = os.rename, os.fsync

    def renaming(source: str, target: str) -> None:
        events.append(("rename", target))
        rename(source, target)

    def syncing(descriptor: int) -> None:
        events.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    monkeypatch.setattr(os, "rename", renaming)
    monkeypatch.setattr(os, "fsync", syncing)
    value = _version(store.put(folder)).value
    place = f"{store.remote}/files/md5/{value[:2]}/{value[2:]}"
    at = events.index(("rename", place))
    assert events[at - 1][0] == "sync"
    assert ".incoming" in events[at - 1][1]
    assert ("sync", os.path.dirname(place)) in events[at:]
    named = {os.path.dirname(target) for event, target in events[:at] if event == "rename" and "/files/" in target}
    assert named <= {path for event, path in events[:at] if event == "sync"}
    assert ("sync", store.remote) in events


def test_cached_content_needs_no_remote(store: DvcStore, folder: Path, tmp_path: Path) -> None:
    version = _version(store.put(folder))
    first = store.fetch(version)
    (tmp_path / "remote").rename(tmp_path / "elsewhere")
    assert store.fetch(version) == first


def test_changed_file_is_noticed_with_the_same_size_and_time(store: DvcStore, folder: Path) -> None:
    first = store.put(folder)
    file = folder / "a.bin"
    times = file.stat()
    file.write_bytes(b"b" * 5000)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    second = store.put(folder)
    assert second.version != first.version
    assert (store.fetch(_version(second)) / "a.bin").read_bytes() == b"b" * 5000


def test_unchanged_files_are_not_copied_again(store: DvcStore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_RACY_NS", -(10**9))
    first = store.put(folder)
    copied: list[str] = []
    original = dvc_directory.dvc_deposit.deposit

    def counting(sources: list[str], *rest: object) -> list[tuple[str, int]]:
        copied.extend(source for source in sources if source.startswith(str(folder)))
        return original(sources, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(dvc_directory.dvc_deposit, "deposit", counting)
    assert store.put(folder) == first
    assert copied == []
    (folder / "new").write_bytes(b"new")
    assert store.put(folder).files == 5
    assert copied == [str(folder / "new")]


def test_several_processes_store_what_one_stores(
    store: DvcStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {f"{number % 7}/{number}": b"%d" % number for number in range(100)} | {"big": b"x" * 3_000_000}
    folder = _write(tmp_path / "data", members)
    monkeypatch.setattr(dvc_directory, "_processes", lambda *_: 3)
    content = store.put(folder)
    hashes = {name: hashlib.md5(content).hexdigest() for name, content in members.items()}
    assert content.version == f"md5:{hashlib.md5(listing(hashes)).hexdigest()}.dir"
    assert _read(store.fetch(_version(content))) == members


def test_error_in_another_process_is_told(
    store: DvcStore, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = _version(store.put(folder))
    value = hashlib.md5(b"").hexdigest()
    (tmp_path / "remote" / "files" / "md5" / value[:2] / value[2:]).unlink()
    (tmp_path / "remote" / "files" / "md5" / value[:2] / value[2:]).mkdir()
    monkeypatch.setattr(dvc_directory, "_processes", lambda files, size: files)
    with pytest.raises(StoreError, match="s a directory"):
        store.fetch(version)


def test_two_processes_may_store_and_fetch_the_same_at_once(store: DvcStore, tmp_path: Path) -> None:
    members = {str(number): b"%d" % number for number in range(2000)}
    folder = _write(tmp_path / "data", members)
    script = "from pathlib import Path; v = store.put(Path({!r})).version; store.fetch(Digest.parse(v)); print(v)"
    processes = [_python(store, script.format(str(folder))) for _ in range(2)]
    versions = {process.communicate()[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    [version] = versions
    assert _read(store.fetch(Digest.parse(version.strip()))) == members
    assert _incoming(tmp_path) == []


def test_killed_put_leaves_only_whole_objects_and_is_repaired(store: DvcStore, tmp_path: Path) -> None:
    members = {str(number): b"%d" % number * 100_000 for number in range(2000)}
    folder = _write(tmp_path / "data", members)
    with _python(store, f"from pathlib import Path; store.put(Path({str(folder)!r}))") as process:
        while not any((tmp_path / "remote").glob("files/md5/*/*")):
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    objects = _objects(tmp_path / "remote")
    assert 0 < len(objects) < len(members)
    assert all(hashlib.md5(content).hexdigest() == value for value, content in objects.items())
    version = _version(store.put(folder))
    assert len(_objects(tmp_path / "remote")) == len(members) + 1
    assert store.has(version)
    assert _incoming(tmp_path) == []


def test_full_disk_is_told_and_repaired_when_there_is_space(store: DvcStore, small_disk: Path, tmp_path: Path) -> None:
    folder = _write(tmp_path / "data", {str(number): os.urandom(200_000) for number in range(10)})
    full = store.model_copy(update={"remote": str(small_disk / "remote")})
    with pytest.raises(StoreFull, match="No space left"):
        full.put(folder)
    assert not any((small_disk / "remote").glob("files/md5/*/*.dir"))
    assert _incoming(small_disk) == []
    (folder / "0").unlink()
    for number in range(1, 9):
        (folder / str(number)).write_bytes(b"little")
    version = _version(full.put(folder))
    assert full.has(version)


def test_full_cache_is_told(store: DvcStore, small_disk: Path, folder: Path) -> None:
    (folder / "big").write_bytes(os.urandom(2_000_000))
    version = _version(store.put(folder))
    full = store.model_copy(update={"cache": str(small_disk / "cache")})
    with pytest.raises(StoreFull, match=r"cache .*No space left"):
        full.fetch(version)
    for value, content in _objects(small_disk / "cache").items():
        assert hashlib.md5(content).hexdigest() == value.removesuffix(".dir")


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_no_right_to_write_is_told(number: int, store: DvcStore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(dvc_directory.dvc_deposit, "_move", refuse)
    with pytest.raises(StoreFull, match=os.strerror(number)):
        store.put(folder)


def test_checkout_gives_a_copy_of_ones_own(store: DvcStore, folder: Path, tmp_path: Path) -> None:
    version = _version(store.put(folder))
    destination = tmp_path / "mine"
    destination.mkdir()
    store.checkout(version, destination)
    assert _read(destination) == _MEMBERS
    (destination / "a.bin").write_bytes(b"changed")
    assert _read(store.fetch(version)) == _MEMBERS
    file = Digest("md5", hashlib.md5(_MEMBERS["a.bin"]).hexdigest())
    store.checkout(file, tmp_path / "new" / "file")
    assert (tmp_path / "new" / "file").read_bytes() == _MEMBERS["a.bin"]


def test_checkout_does_not_write_over_anything(store: DvcStore, folder: Path) -> None:
    version = _version(store.put(folder))
    with pytest.raises(StoreError, match="already exists"):
        store.checkout(version, folder)
    with pytest.raises(StoreError, match="already exists"):
        store.checkout(Digest("md5", hashlib.md5(b"").hexdigest()), folder / "a.bin")
    assert _read(folder) == _MEMBERS


def test_what_is_no_file_is_refused(store: DvcStore, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read: No such file"):
        store.put(tmp_path / "nothing")
    (folder / "link").symlink_to(folder / "deep")
    with pytest.raises(StoreError, match="link is not a regular file"):
        store.put(folder)
    (folder / "link").unlink()
    os.mkfifo(folder / "pipe")
    with pytest.raises(StoreError, match="pipe is not a regular file"):
        store.put(folder)


def test_equal_frames_have_equal_versions_in_another_process(store: DvcStore) -> None:
    build = "pd.DataFrame({'n': [1, 2, None], 's': ['a', None, 'ü'], 'c': pd.Categorical(['x', 'y', 'x'])})"
    frame = eval(build)
    ours = store.put_frame(frame)
    with _python(store, f"import pandas as pd; print(store.put_frame({build}).version)") as process:
        assert process.communicate()[0].strip() == ours.version
    frame.attrs["note"] = "not content"
    assert store.put_frame(frame).version == ours.version
    assert (ours.format, ours.files, ours.rows) == ("parquet", 1, 3)
    assert store.put_frame(frame.iloc[:2]).version != ours.version
    pd.testing.assert_frame_equal(store.read_frame(_version(ours)), frame, check_flags=False)


def test_index_of_frame_is_kept_unless_it_counts_rows(store: DvcStore) -> None:
    times = pd.date_range("2013-01-01", periods=3, freq="h", tz="America/New_York", name="hour")
    frame = pd.DataFrame({"value": [1.5, 2.5, 3.5]}, index=times)
    version = _version(store.put_frame(frame))
    pd.testing.assert_frame_equal(store.read_frame(version), frame, check_freq=False)
    counted = store.put_frame(frame.reset_index(drop=True))
    assert pd.read_parquet(store.fetch(_version(counted)).rename(Path(store.cache) / "x.parquet")).columns == ["value"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pd.RangeIndex(3), pd.Index([0, 1, 2])),
        (pd.RangeIndex(3, name="row"), pd.Index([0, 1, 2], name="row")),
        (pd.RangeIndex(5, 8), pd.Index([5, 6, 7])),
        (pd.RangeIndex(0, 6, 2), pd.RangeIndex(0, 5, 2)),
    ],
    ids=["counts", "counts and has a name", "starts elsewhere", "stops elsewhere"],
)
def test_frames_with_equal_indexes_have_equal_versions(store: DvcStore, one: pd.Index, other: pd.Index) -> None:
    values = {"value": [1.5, 2.5, 3.5]}
    frames = [pd.DataFrame(values, index=index) for index in (one, other)]
    assert frames[0].equals(frames[1])
    first, second = (store.put_frame(frame) for frame in frames)
    assert first.version == second.version
    pd.testing.assert_frame_equal(store.read_frame(_version(first)), frames[0])
    assert list(frames[1].index) == list(other)


def test_frames_with_other_indexes_have_other_versions(store: DvcStore) -> None:
    indexes = [
        pd.RangeIndex(3),
        pd.RangeIndex(3, name="row"),
        pd.RangeIndex(1, 4),
        pd.Index([0, 2, 1]),
        pd.Index([0, 1, 2], dtype="int8"),
        pd.Index([0.0, 1.0, 2.0]),
    ]
    frames = [pd.DataFrame({"value": [1.5, 2.5, 3.5]}, index=index) for index in indexes]
    contents = [store.put_frame(frame) for frame in frames]
    assert len({content.version for content in contents}) == len(indexes)
    for frame, content in zip(frames, contents, strict=True):
        pd.testing.assert_frame_equal(store.read_frame(_version(content)), frame)


@pytest.mark.parametrize("values", [[None, UUID(int=5)], pd.Categorical([UUID(int=5)])], ids=["objects", "categories"])
def test_uuids_in_a_frame_are_refused_as_they_would_come_back_as_bytes(store: DvcStore, values: Any) -> None:
    with pytest.raises(SchemaError, match=r"column 'flight' contains UUIDs.* Next: .*astype\(str\)"):
        store.put_frame(pd.DataFrame({"late": 1, "flight": values}))
    with pytest.raises(SchemaError, match="column 'flight' contains UUIDs"):
        store.put_frame(pd.DataFrame({"late": [1]}, index=pd.Index([UUID(int=5)], name="flight")))


def test_frame_that_is_no_table_is_refused(store: DvcStore) -> None:
    with pytest.raises(SchemaError, match="mixed"):
        store.put_frame(pd.DataFrame({"mixed": [1, "one"]}))
    with pytest.raises(SchemaError, match="twice"):
        store.put_frame(pd.DataFrame([[1, 2]], columns=["twice", "twice"]))


def test_content_that_is_no_table_is_refused(store: DvcStore, folder: Path) -> None:
    version = _version(store.put(folder / "a.bin"))
    with pytest.raises(InputError, match="Parquet"):
        store.read_frame(version)


def test_other_digests_are_refused(store: DvcStore) -> None:
    with pytest.raises(StoreError, match="not a DVC hash"):
        store.fetch(Digest.of_bytes(b""))


def test_store_loads_no_dvc_until_it_is_needed(store: DvcStore, folder: Path) -> None:
    script = f"""
from pathlib import Path
store.put(Path({str(folder)!r}))
import sys
print(sorted({{"dvc", "dvc_data", "dvc_objects", "pyarrow.parquet"}} & set(sys.modules)))
"""
    with _python(store, script) as process:
        assert process.communicate()[0].strip() == "[]"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mount.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mount.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


class _Dvc:
    """The ``dvc`` command in its own repository."""

    def __init__(self, folder: Path, site: Path) -> None:
        self.folder = folder
        self._environment = os.environ | {
            "DVC_SITE_CACHE_DIR": str(site),
            "DVC_GLOBAL_CONFIG_DIR": str(site),
            "DVC_NO_ANALYTICS": "1",
        }
        folder.mkdir()
        self("init", "--no-scm", "--quiet")

    def __call__(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "dvc", *arguments]
        done = subprocess.run(command, cwd=self.folder, env=self._environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def dvc(tmp_path: Path) -> _Dvc:
    return _Dvc(tmp_path / "repository", tmp_path / "site")


def _assert_pulled(store: DvcStore, source: Path, dvc: _Dvc) -> None:
    content = store.put(source)
    (dvc.folder / "restored.dvc").write_text(store.dvc_file(content, "restored", {"asset": "flights"}))
    dvc("pull")
    restored = dvc.folder / "restored"
    expected = _MEMBERS if source.is_dir() else {".": source.read_bytes()}
    assert _read(restored) == expected
    assert "asset: flights" in (dvc.folder / "restored.dvc").read_text()
    assert dvc("status") == "Data and pipelines are up to date.\n"


def _python(store: DvcStore, script: str) -> "subprocess.Popen[str]":
    prelude = f"""
from ml_assets.resources.dvc.store import DvcStore
from ml_assets.resources.identity import Digest
store = DvcStore(remote={store.remote!r}, cache={store.cache!r})
"""
    return subprocess.Popen([sys.executable, "-c", prelude + script], stdout=subprocess.PIPE, text=True)


def _write(folder: Path, members: dict[str, bytes]) -> Path:
    for relpath, content in members.items():
        (folder / relpath).parent.mkdir(parents=True, exist_ok=True)
        (folder / relpath).write_bytes(content)
    return folder


def _read(place: Path) -> dict[str, bytes]:
    files = [place] if place.is_file() else [file for file in place.rglob("*") if file.is_file()]
    return {str(file.relative_to(place)): file.read_bytes() for file in files}


def _objects(place: Path) -> dict[str, bytes]:
    return {file.parent.name + file.name: file.read_bytes() for file in (place / "files" / "md5").glob("*/*")}


def _incoming(place: Path) -> list[Path]:
    return list(place.glob("*/.incoming/*"))


def _version(content: Content) -> Digest:
    return Digest.parse(content.version)


def _s3(endpoint: str):  # type: ignore[no-untyped-def]
    return boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
    )
