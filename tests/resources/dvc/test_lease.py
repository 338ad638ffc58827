"""Writers wait for deletions, and nobody waits for dead processes."""

import json
import os
import threading
import time
from pathlib import Path

import pytest

from ml_assets.resources.dvc import lease as dvc_lease
from ml_assets.resources.dvc.lease import collection_lease
from ml_assets.resources.dvc.store import DvcStore
from ml_assets.resources.errors import StoreError


@pytest.fixture
def store(tmp_path: Path) -> DvcStore:
    (tmp_path / "file").write_text("content")
    return DvcStore(remote=str(tmp_path / "remote"), cache=str(tmp_path / "cache"))


def test_storing_waits_until_the_deletion_is_over(
    store: DvcStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_asked, asked = threading.Event(), dvc_lease._remaining

    def remaining(remote: object) -> float:
        left = asked(remote)  # type: ignore[arg-type]
        has_asked.set()
        return left

    monkeypatch.setattr(dvc_lease, "_POLL_SECONDS", 0.02)
    with collection_lease(store.opened()) as renew:
        monkeypatch.setattr(dvc_lease, "_remaining", remaining)
        writer = threading.Thread(target=store.put, args=(tmp_path / "file",))
        writer.start()
        assert has_asked.wait(480)
        renew()
        assert not store.opened().held()
    writer.join(480)
    assert len(store.opened().held()) == 1


def test_two_do_not_delete_at_once(store: DvcStore) -> None:
    with (
        collection_lease(store.opened()),
        pytest.raises(StoreError, match="another garbage collection is running"),
        collection_lease(store.opened()),
    ):
        pass
    with collection_lease(store.opened()):
        pass


def age(store: DvcStore, seconds: float) -> None:
    """Make the lease older by the store's clock."""
    note = Path(store.remote) / "ml-assets" / "collecting.json"
    then = note.stat().st_mtime - seconds
    os.utime(note, (then, then))


def test_a_lease_that_was_not_renewed_is_over(store: DvcStore, tmp_path: Path) -> None:
    with collection_lease(store.opened()) as renew:
        age(store, dvc_lease._SECONDS + 1)
        store.put(tmp_path / "file")
        with pytest.raises(StoreError, match=r"lease on the .* was lost"):
            renew()


@pytest.mark.parametrize("until", [0, 4_000_000_000, "x", None])
def test_a_lease_lasts_as_long_as_the_clock_of_the_store_says(
    until: object, store: DvcStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dvc_lease, "_POLL_SECONDS", 0.02)
    store.opened().write_note("collecting.json", json.dumps({"token": "theirs", "until": until}).encode())
    age(store, dvc_lease._SECONDS - 0.3)
    with pytest.raises(StoreError, match="another garbage collection"), collection_lease(store.opened()):
        pass
    store.put(tmp_path / "file")
    assert caplog.messages == [f"waiting for a garbage collection on the {store.opened().name} to end, at most 0 s"]
    with collection_lease(store.opened()):
        pass


def test_a_lease_that_its_holder_renews_is_waited_for_again(
    store: DvcStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dvc_lease, "_POLL_SECONDS", 0.02)
    monkeypatch.setattr(dvc_lease, "_SECONDS", 0.5)
    writer = threading.Thread(target=store.put, args=(tmp_path / "file",))
    with collection_lease(store.opened()) as renew:
        writer.start()
        for _ in range(5):
            time.sleep(0.15)
            renew()
            assert writer.is_alive()
    writer.join(480)
    assert len(store.opened().held()) == 1


@pytest.mark.parametrize("content", [b"", b"garbage", b"[]", b"3", b"{}", b'{"token": 3}', b"\xff"])
def test_a_note_that_is_no_lease_is_named_and_skipped(
    content: bytes, store: DvcStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.opened().write_note("collecting.json", content)
    store.put(tmp_path / "file")
    assert "collecting.json in the DVC remote" in caplog.text
    with collection_lease(store.opened()) as renew:
        renew()
