"""A lease that keeps writers from storing content while a collection deletes content.

Writers do not store existing objects again. A writer whose materialization is not recorded yet could thus rely on an
object that a collection is about to delete. Therefore a collection holds a lease, a note in the remote, and writers
wait for its end. A lease that is not renewed expires.
"""

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Final

from ml_assets.resources.dvc.remote import Remote
from ml_assets.resources.errors import StoreError

__all__ = ["collection_lease", "wait_for_collection"]

_NOTE: Final = "collecting.json"
_SECONDS: Final = 300.0
_POLL_SECONDS: Final = 1.0


def wait_for_collection(remote: Remote) -> None:
    """Wait while another process deletes from the remote, at most until its lease expires."""
    while _remaining(remote) > 0:
        time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def collection_lease(remote: Remote) -> Iterator[Callable[[], None]]:
    """Hold the lease, so that writers wait while this process deletes.

    Yields:
        A function that renews the lease; call it before each deletion, which must follow within five minutes.

    Raises:
        StoreError: another process is deleting, or took over the lease because it was not renewed.
    """
    if _remaining(remote) > 0:
        raise StoreError(
            f"another garbage collection is running on the {remote.name}",
            next_step="run again when it has ended; the lease of a killed collection expires after five minutes",
        )
    token = uuid.uuid4().hex

    def renew() -> None:
        found = _read(remote)
        if found.get("token") != token or found["until"] < time.time():
            raise StoreError(
                f"the lease on the {remote.name} was lost, so other processes may store content there",
                next_step="run again; the remote is consistent",
            )
        _write(remote, token)

    _write(remote, token)
    try:
        renew()
        yield renew
    finally:
        if _read(remote).get("token") == token:
            remote.write_note(_NOTE, None)


def _write(remote: Remote, token: str) -> None:
    remote.write_note(_NOTE, json.dumps({"token": token, "until": time.time() + _SECONDS}).encode())


def _read(remote: Remote) -> dict[str, Any]:
    content = remote.read_note(_NOTE)
    try:
        found: dict[str, Any] = json.loads(content) if content else {}
    except ValueError:
        return {}
    return found if "until" in found else {}


def _remaining(remote: Remote) -> float:
    return float(_read(remote).get("until", 0)) - time.time()
