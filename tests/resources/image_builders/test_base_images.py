"""The lock of base images, updated from a real registry."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ml_assets.resources.errors import ImageError
from ml_assets.resources.identity import Digest
from ml_assets.resources.image_builders.base_images import (
    LOCK_FILE,
    base_image_reference,
    read_base_images,
    update_base_images,
)
from ml_assets.resources.registry.client import RegistryClient
from tests.oci_registry import OciRegistry

ROOT = Path(__file__).parents[3]
FIRST_TIME = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = datetime(2026, 2, 3, tzinfo=UTC)


@pytest.fixture
def client(tmp_path: Path) -> RegistryClient:
    return RegistryClient(docker_config=tmp_path / "no-config.json")


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return _write(tmp_path / LOCK_FILE, {"python": None})


def test_committed_lock_names_the_base_of_both_dockerfiles_and_no_registry() -> None:
    python = read_base_images(ROOT / LOCK_FILE)["python"]
    assert python.repository == "library/python"
    assert python.tag.startswith("3.")


def test_update_writes_what_the_registry_answered(
    oci_registry: OciRegistry, client: RegistryClient, lock: Path
) -> None:
    digest, platforms = _push_base(oci_registry)
    (update,) = update_base_images(lock, oci_registry.host, client, now=lambda: FIRST_TIME)
    assert (update.name, update.before, str(update.after), update.error) == ("python", None, digest, None)
    written = json.loads(lock.read_text())["images"]["python"]["answer"]
    assert written == {
        "digest": digest,
        "platforms": platforms,
        "registry": oci_registry.host,
        "answered_at": "2026-01-02T03:04:05Z",
    }
    assert str(base_image_reference(lock, "python", "mirror.example")) == f"mirror.example/library/python@{digest}"


def test_unchanged_answer_leaves_the_lock_as_it_is(
    oci_registry: OciRegistry, client: RegistryClient, lock: Path
) -> None:
    _push_base(oci_registry)
    update_base_images(lock, oci_registry.host, client, now=lambda: FIRST_TIME)
    before = lock.read_bytes(), lock.stat().st_ino
    (update,) = update_base_images(lock, oci_registry.host, client, now=lambda: LATER)
    assert update.before == update.after
    assert (lock.read_bytes(), lock.stat().st_ino) == before


def test_moved_tag_gives_a_new_digest(oci_registry: OciRegistry, client: RegistryClient, lock: Path) -> None:
    first, _ = _push_base(oci_registry)
    update_base_images(lock, oci_registry.host, client)
    second = oci_registry.push_image("library/python", "slim", labels={"patched": "yes"})
    (update,) = update_base_images(lock, oci_registry.host, client)
    assert (str(update.before), str(update.after)) == (first, second)
    assert read_base_images(lock)["python"].answer.platforms == {"linux/amd64": Digest.parse(second)}  # type: ignore[union-attr]


def test_image_without_an_answer_keeps_its_entry_and_lets_the_others_be_updated(
    oci_registry: OciRegistry, client: RegistryClient, tmp_path: Path
) -> None:
    old = {
        "digest": str(Digest.of_bytes(b"old")),
        "platforms": {},
        "registry": "old.example",
        "answered_at": "2025-01-01T00:00:00Z",
    }
    lock = _write(tmp_path / LOCK_FILE, {"gone": old, "python": None, "never": None})
    digest, _ = _push_base(oci_registry)
    updates = {update.name: update for update in update_base_images(lock, oci_registry.host, client)}
    assert "does not have" in str(updates["gone"].error)
    assert updates["gone"].after == Digest.of_bytes(b"old")
    images = json.loads(lock.read_text())["images"]
    assert images["gone"]["answer"] == old
    assert images["never"]["answer"] is None
    assert images["python"]["answer"]["digest"] == digest


def test_registry_that_does_not_run_changes_nothing(client: RegistryClient, lock: Path) -> None:
    before = lock.read_bytes()
    (update,) = update_base_images(lock, "127.0.0.1:1", client)
    assert "did not answer" in str(update.error)
    assert lock.read_bytes() == before


def test_lock_that_cannot_be_replaced_stays_whole(
    oci_registry: OciRegistry, client: RegistryClient, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _push_base(oci_registry)
    before = lock.read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(ImageError, match="No space left on device"):
        update_base_images(lock, oci_registry.host, client)
    assert lock.read_bytes() == before
    assert [path.name for path in lock.parent.glob(f".{LOCK_FILE}*")] == []


def test_base_without_a_digest_says_what_to_run(lock: Path) -> None:
    with pytest.raises(ImageError) as caught:
        base_image_reference(lock, "python", "mirror.example")
    assert str(caught.value) == "base image python has no digest yet. Next: run ml-assets images update."


def test_base_that_the_lock_does_not_name_is_refused(lock: Path) -> None:
    with pytest.raises(ImageError, match="has no base image 'cuda'; it has python"):
        base_image_reference(lock, "cuda", "mirror.example")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "malformed"),
        ('{"schema_version": 2, "images": {}}', "schema_version"),
        (
            '{"schema_version": 1, "images": {"p": {"repository": "p", "tag": "1", "digest": "x"}}}',
            "images.p.digest",
        ),
        (
            '{"schema_version": 1, "images": {"p": {"repository": "p", "tag": "1", "answer": {"digest": "sha256:1",'
            ' "platforms": {}, "registry": "r", "answered_at": "2026-01-01T00:00:00Z"}}}}',
            "hexadecimal digits",
        ),
    ],
)
def test_malformed_lock_is_refused_and_says_where(tmp_path: Path, text: str, what: str) -> None:
    lock = tmp_path / LOCK_FILE
    lock.write_text(text)
    with pytest.raises(ImageError, match=what):
        read_base_images(lock)


def test_missing_lock_says_to_restore_it(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"restore images\.lock from git"):
        read_base_images(tmp_path / LOCK_FILE)


def _write(lock: Path, answers: dict[str, object]) -> Path:
    images = {
        name: {"repository": f"library/{name}", "tag": "slim", "answer": answer} for name, answer in answers.items()
    }
    lock.write_text(json.dumps({"schema_version": 1, "images": images}))
    return lock


def _push_base(registry: OciRegistry) -> tuple[str, dict[str, str]]:
    platforms = {
        "linux/amd64": registry.push_image("library/python", "amd64"),
        "linux/arm64": registry.push_image("library/python", "arm64", architecture="arm64"),
    }
    return registry.push_index("library/python", "slim", platforms), platforms
