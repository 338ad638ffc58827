"""Dynamic batching: requests that arrive together share one model run, within limits of time, rows and memory.

A batch contains the requests that arrived during the previous run, so an idle server adds no delay. Short runs execute
in the event loop, where a thread switch would cost more than the run.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ml_assets.resources.errors import InvalidInput, Overloaded, PredictionFailed, ServingError
from ml_assets.serving.servable import Servable
from ml_assets.serving.tables import Feeds

__all__ = ["BatchReport", "Batcher"]

_SHORT_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class BatchReport:
    """Measurements of one model run."""

    feeds: Feeds
    outputs: Feeds
    rows: int
    run_seconds: float
    waited_seconds: list[float]
    """Waiting time of each request in the batch, before the run."""


@dataclass(slots=True)
class _Waiting:
    feeds: Feeds
    rows: int
    answer: "asyncio.Future[Feeds]"
    since: float


class Batcher:
    """Runs one model for one event loop.

    Args:
        servable: the model.
        most_rows: maximum number of rows in one run, unless a single request has more.
        delay: seconds that a request may wait for others when the model is free.
        queue_rows: maximum number of rows in the queue.
        report: called after each run.
    """

    def __init__(
        self,
        servable: Servable,
        *,
        most_rows: int,
        delay: float,
        queue_rows: int,
        report: Callable[[BatchReport], None],
    ) -> None:
        self._servable = servable
        self._most_rows = most_rows if servable.shares_runs else 0
        self._delay = delay if servable.shares_runs else 0.0
        self._queue_rows = queue_rows
        self._report = report
        self._waiting: deque[_Waiting] = deque()
        self.waiting_rows = 0
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._seconds_per_row = 0.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")

    async def predict(self, feeds: Feeds) -> Feeds:
        """Return the outputs for these rows.

        Raises:
            Overloaded: the queue is full.
            InvalidInput: the graph does not accept these values.
            PredictionFailed: the run failed.
        """
        rows = len(next(iter(feeds.values()))) if self._servable.shares_runs else 1
        if self.waiting_rows and self.waiting_rows + rows > self._queue_rows:
            raise Overloaded(
                f"the queue is full: {self.waiting_rows} rows already wait for the model",
                next_step="retry in a moment",
            )
        loop = asyncio.get_running_loop()
        waiting = _Waiting(feeds, rows, loop.create_future(), time.perf_counter())
        self._waiting.append(waiting)
        self.waiting_rows += rows
        is_full = self.waiting_rows >= self._most_rows
        if not self._scheduled:
            self._scheduled = True
            if self._delay and not is_full:
                self._timer = loop.call_later(self._delay, self._next)
            else:
                loop.call_soon(self._next)
        elif is_full and self._timer is not None:
            self._timer.cancel()
            self._timer = None
            loop.call_soon(self._next)
        return await waiting.answer

    def close(self) -> None:
        """Stop the thread."""
        self._thread.shutdown(wait=False)

    def _next(self) -> None:
        """Run the queued requests; called when the model is free."""
        self._timer = None
        batch = list(self._take())
        if not batch:
            self._scheduled = False
        elif self._seconds_per_row * sum(waiting.rows for waiting in batch) <= _SHORT_SECONDS:
            asyncio.get_running_loop().call_soon(self._next)
            self._run(batch)
        else:
            self._run_beside(batch)

    def _take(self) -> Iterator[_Waiting]:
        rows, form = 0, None
        while self._waiting:
            waiting = self._waiting[0]
            if rows and (rows + waiting.rows > self._most_rows or _form(waiting.feeds) != form):
                return
            self._waiting.popleft()
            self.waiting_rows -= waiting.rows
            if not waiting.answer.done():  # it is done if the client disconnected or the request timed out
                rows, form = rows + waiting.rows, form or _form(waiting.feeds)
                yield waiting

    def _run(self, batch: list[_Waiting]) -> None:
        self._finish(batch, *_timed(self._servable, batch))

    def _run_beside(self, batch: list[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._thread, _timed, self._servable, batch)

        def done(finished: "asyncio.Future[tuple[Feeds, Any, float, float]]") -> None:
            if not finished.cancelled():
                loop.call_soon(self._next)
                self._finish(batch, *finished.result())

        running.add_done_callback(done)

    def _finish(self, batch: list[_Waiting], feeds: Feeds, result: Any, started: float, ended: float) -> None:
        rows = sum(waiting.rows for waiting in batch)
        self._seconds_per_row = 0.9 * self._seconds_per_row + 0.1 * (ended - started) / rows
        if isinstance(result, Exception):
            if len(batch) > 1:  # one invalid request must not fail the others
                for waiting in batch:
                    self._run([waiting])
            elif not batch[0].answer.done():
                batch[0].answer.set_exception(_ours(result))
            return
        start = 0
        for waiting in batch:
            if not waiting.answer.done():
                waiting.answer.set_result(
                    result
                    if len(batch) == 1
                    else {name: each[start : start + waiting.rows] for name, each in result.items()}
                )
            start += waiting.rows
        self._report(BatchReport(feeds, result, rows, ended - started, [started - waiting.since for waiting in batch]))


def _timed(servable: Servable, batch: list[_Waiting]) -> tuple[Feeds, Any, float, float]:
    started, feeds = time.perf_counter(), batch[0].feeds
    try:
        feeds = _joined(batch)
        result: Any = servable.run(feeds)
    except Exception as error:  # the error answers each request and must not end the worker
        result = error
    return feeds, result, started, time.perf_counter()


def _joined(batch: list[_Waiting]) -> Feeds:
    if len(batch) == 1:
        return batch[0].feeds
    return {name: np.concatenate([waiting.feeds[name] for waiting in batch]) for name in batch[0].feeds}


def _form(feeds: Feeds) -> tuple[Any, ...]:
    return tuple(array.shape[1:] for array in feeds.values())


def _ours(error: Exception) -> ServingError:
    said = str(error).partition("\n")[0][:300]
    if type(error).__name__ == "InvalidArgument":
        return InvalidInput(f"the model does not accept these values: {said}", next_step="see the model's metadata")
    return PredictionFailed(f"the model failed: {said}", next_step="see the server's log")
