"""Writers wait for deletions, and nobody waits for dead processes."""

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


def test_a_lease_that_was_not_renewed_is_over(store: DvcStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with collection_lease(store.opened()) as renew:
        end = time.time() + dvc_lease._SECONDS
        monkeypatch.setattr(dvc_lease.time, "time", lambda: end + 1)
        store.put(tmp_path / "file")
        with pytest.raises(StoreError, match=r"lease on the .* was lost"):
            renew()
