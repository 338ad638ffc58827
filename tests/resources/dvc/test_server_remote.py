"""A remote on a real S3 server that fails, drops connections, lies about failures, and hangs."""

import hashlib
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from ml_assets.resources.dvc.directory import Condition
from ml_assets.resources.dvc.lease import collection_lease
from ml_assets.resources.dvc.store import DvcStore
from ml_assets.resources.errors import RemoteUnreachable
from ml_assets.resources.identity import Digest
from tests.flaky_proxy import FlakyProxy, flaky_proxy

MEMBERS = {f"{number % 3}/{number}": b"%d" % number * 1000 for number in range(12)}
_buckets = itertools.count()


@pytest.fixture(scope="module")
def proxy() -> Iterator[FlakyProxy]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with flaky_proxy(f"http://{host}:{port}") as found:
        yield found
    server.stop()


@pytest.fixture
def store(proxy: FlakyProxy, tmp_path: Path) -> Iterator[DvcStore]:
    proxy.share = 0
    bucket = f"bucket-{next(_buckets)}"
    client = boto3.client(
        "s3", endpoint_url=proxy.url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    client.create_bucket(Bucket=bucket)
    client.close()
    keys = {"access_key_id": "a", "secret_access_key": "b", "region": "us-east-1", "read_timeout": 1}
    options = {"endpointurl": proxy.url, **keys}
    yield DvcStore(remote=f"s3://{bucket}/x", options=options, cache=str(tmp_path / "cache"), retry_seconds=60)
    proxy.share = 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in MEMBERS.items():
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(content)
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("share", "faults"),
    [(0.05, ("500", "503", "drop", "lie", "cut")), (0.3, ("500", "503", "drop", "lie", "cut"))],
)
def test_content_is_stored_and_fetched_by_a_server_that_fails_for_moments(
    share: float, faults: tuple[str, ...], proxy: FlakyProxy, store: DvcStore, folder: Path, tmp_path: Path
) -> None:
    proxy.share, proxy.faults = share, faults
    version = Digest.parse(store.put(folder).version)
    other = store.model_copy(update={"cache": str(tmp_path / "other")})
    assert other.has(version)
    tree = other.fetch(version)
    assert {str(file.relative_to(tree)): file.read_bytes() for file in tree.rglob("*") if file.is_file()} == MEMBERS
    assert len(store.opened().held()) == len(MEMBERS) + 1
    with collection_lease(store.opened()) as renew:
        renew()
        store.opened().remove(list(store.opened().held()))
    assert store.opened().held() == {}
    assert sum(proxy.seen[fault] for fault in faults) > 0


def test_request_that_hangs_is_repeated(proxy: FlakyProxy, store: DvcStore, folder: Path) -> None:
    store.opened()
    proxy.share, proxy.faults = 0.1, ("hang",)
    store.put(folder)
    proxy.share = 0
    assert len(store.opened().held()) == len(MEMBERS) + 1


def test_server_that_keeps_failing_is_given_up_after_the_deadline(
    proxy: FlakyProxy, store: DvcStore, folder: Path
) -> None:
    hasty = store.model_copy(update={"retry_seconds": 0.2})
    hasty.opened()
    proxy.share, proxy.faults = 1, ("503",)
    started = time.monotonic()
    with pytest.raises(RemoteUnreachable, match=r"s3://bucket-.* did not answer"):
        hasty.put(folder)
    assert time.monotonic() - started < 100


def test_refusal_is_not_repeated(proxy: FlakyProxy, store: DvcStore) -> None:
    before = sum(proxy.seen.values())
    with pytest.raises(RemoteUnreachable, match="no-such-bucket"):
        store.model_copy(update={"remote": "s3://no-such-bucket/x"}).put(Path(__file__))
    assert sum(proxy.seen.values()) - before < 10


@pytest.mark.parametrize("content", [b"", b"X" * 4000], ids=["cut", "of equal size"])
def test_altered_object_is_told_and_heals_when_it_is_stored_again(
    content: bytes, store: DvcStore, folder: Path, tmp_path: Path
) -> None:
    version = Digest.parse(store.put(folder).version)
    value = hashlib.md5(MEMBERS["1/1"]).hexdigest()
    remote = store.opened()
    place = f"{store.remote.removeprefix('s3://')}/files/md5/{value[:2]}/{value[2:]}"
    remote._objects.fs.pipe_file(place, content[: len(MEMBERS["1/1"])])  # type: ignore[attr-defined]
    assert remote.condition(value) is Condition.DAMAGED
    store.model_copy(update={"cache": str(tmp_path / "other")}).put(folder)
    assert remote.condition(value) is Condition.INTACT
    assert remote.condition("0" * 32) is Condition.MISSING
    assert store.has(version)
