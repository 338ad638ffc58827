"""Nobody stores content while somebody deletes it.

An object that is there already is not stored again. So one that is to be deleted could be taken for stored by a writer
whose materialization is not recorded yet. Whoever deletes therefore holds a lease, a note in the remote, and whoever
stores waits for its end. A lease that is not renewed ends by itself.
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
    """Wait while somebody deletes from the remote; at most until their lease ends."""
    while _remaining(remote) > 0:
        time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def collection_lease(remote: Remote) -> Iterator[Callable[[], None]]:
    """Keep writers waiting while this deletes.

    Yields:
        What has to be called before each deletion that follows within five minutes; it renews the lease.

    Raises:
        StoreError: somebody else deletes at the moment, or took the lease over because it was not renewed.
    """
    if _remaining(remote) > 0:
        raise StoreError(
            f"somebody else collects what is in the {remote.name}",
            next_step="run again when they are done; a collection that was killed is over after five minutes",
        )
    token = uuid.uuid4().hex

    def renew() -> None:
        found = _read(remote)
        if found.get("token") != token or found["until"] < time.time():
            raise StoreError(
                f"the lease on the {remote.name} was lost, so that others may store there",
                next_step="run again; what was deleted so far is consistent",
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
