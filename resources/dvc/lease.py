"""A lease that keeps writers from storing content while a collection deletes content.

Writers do not store existing objects again. A writer whose materialization is not recorded yet could thus rely on an
object that a collection is about to delete. Therefore a collection holds a lease, a note in the remote, and writers
wait for its end.

A lease ends five minutes after the note was last written, whatever the note says. Both times are read from the store's
clock, by writing a second note, so that wrong clocks of other machines neither shorten nor prolong a lease.
"""

import contextlib
import json
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Final

from ml_assets.resources.dvc.remote import Remote
from ml_assets.resources.errors import StoreError

__all__ = ["collection_lease", "wait_for_collection"]

_logger = logging.getLogger(__name__)

_NOTE: Final = "collecting.json"
_SECONDS: Final = 300.0
_POLL_SECONDS: Final = 1.0
_REMINDER_SECONDS: Final = 30.0


def wait_for_collection(remote: Remote) -> None:
    """Wait while another process deletes from the remote, at most until its lease expires; log a line meanwhile."""
    token = _token(remote)
    if token is None:
        return
    remaining = _remaining(remote)
    seen = time.monotonic()
    reminded = -_REMINDER_SECONDS
    while remaining > 0:
        waited = time.monotonic() - seen
        if waited - reminded >= _REMINDER_SECONDS:
            reminded = waited
            _logger.warning(
                "waiting for a garbage collection on the %s to end, at most %.0f s", remote.name, remaining - waited
            )
        time.sleep(_POLL_SECONDS)
        found = _token(remote)
        if found is None or (found == token and time.monotonic() - seen >= remaining):
            return
        if found != token:
            token, remaining, seen = found, _remaining(remote), time.monotonic()


@contextlib.contextmanager
def collection_lease(remote: Remote) -> Iterator[Callable[[], None]]:
    """Hold the lease, so that writers wait while this process deletes.

    Yields:
        A function that renews the lease; call it before each deletion, which must follow within five minutes.

    Raises:
        StoreError: another process is deleting, or took over the lease because it was not renewed.
    """
    if _token(remote) is not None and _remaining(remote) > 0:
        raise StoreError(
            f"another garbage collection is running on the {remote.name}",
            next_step="run again when it has ended; the lease of a killed collection expires after five minutes",
        )
    holder, turns = uuid.uuid4().hex, 0

    def write() -> None:
        nonlocal turns
        turns += 1
        content = {"token": f"{holder}-{turns}", "until": time.time() + _SECONDS}  # `until` is for human readers.
        remote.write_note(_NOTE, json.dumps(content).encode())

    def is_ours() -> bool:
        return _token(remote) == f"{holder}-{turns}"

    def renew() -> None:
        if not is_ours() or _remaining(remote) <= 0:
            raise StoreError(
                f"the lease on the {remote.name} was lost, so other processes may store content there",
                next_step="run again; the remote is consistent",
            )
        write()

    write()
    try:
        renew()
        yield renew
    finally:
        if is_ours():
            remote.write_note(_NOTE, None)


def _token(remote: Remote) -> str | None:
    """Return the token of the current lease, which changes with each renewal; None if there is no lease."""
    content = remote.read_note(_NOTE)
    if content is None:
        return None
    try:
        token = json.loads(content)["token"]
    except (ValueError, KeyError, TypeError, RecursionError):
        token = None
    if isinstance(token, str):
        return token
    _logger.warning("the note %s in the %s is not a lease and is ignored: %.80r", _NOTE, remote.name, content)
    return None


def _remaining(remote: Remote) -> float:
    """Return the seconds until the current lease expires, by the store's clock; its whole length if that is unknown."""
    probe = f"clock-{uuid.uuid4().hex}"
    remote.write_note(probe, b"")
    try:
        now, written = remote.note_written(probe), remote.note_written(_NOTE)
    finally:
        remote.write_note(probe, None)
    if now is None or written is None:
        return _SECONDS if remote.read_note(_NOTE) is not None else 0.0
    return min(_SECONDS, _SECONDS - (now - written))
