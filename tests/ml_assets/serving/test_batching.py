import asyncio
import threading
from typing import Any

import numpy as np
import pytest

from ml_assets.resources.errors import Overloaded, PredictionFailed
from ml_assets.serving.batching import Batcher, BatchReport
from ml_assets.serving.servable import Servable
from ml_assets.serving.tables import Feeds


class _Watched(Servable):
    """The real model; a test can delay its runs, and a special row makes a run fail."""

    def __init__(self, servable: Servable) -> None:
        self.__dict__.update(servable.__dict__)
        self.free = threading.Event()
        self.free.set()

    def run(self, feeds: Feeds) -> Feeds:
        self.free.wait(480)
        if (feeds["features"] == -1).any():
            raise RuntimeError("the row says so")
        return super().run(feeds)


def _batcher(servable: Servable, reports: list[BatchReport], **limits: Any) -> Batcher:
    chosen = {"most_rows": 8, "delay": 0.0, "queue_rows": 100} | limits
    return Batcher(servable, report=reports.append, **chosen)


def _row(value: float, rows: int = 1) -> Feeds:
    return {"features": np.full((rows, 3), value, dtype=np.float32)}


@pytest.fixture
def watched(servable: Servable) -> _Watched:
    return _Watched(servable)


def test_each_request_gets_its_own_rows_of_a_shared_run(watched: _Watched) -> None:
    reports: list[BatchReport] = []

    async def main() -> list[Feeds]:
        batcher = _batcher(watched, reports)
        return await asyncio.gather(*(batcher.predict(_row(value, rows)) for value, rows in ((1, 1), (2, 3), (3, 2))))

    outputs = asyncio.run(main())
    assert [report.rows for report in reports] == [6]
    for output, value, rows in zip(outputs, (1, 2, 3), (1, 3, 2), strict=True):
        np.testing.assert_array_equal(output["predictions"], watched.run(_row(value, rows))["predictions"])


def test_run_has_no_more_rows_than_allowed_unless_one_request_has(watched: _Watched) -> None:
    reports: list[BatchReport] = []

    async def main() -> None:
        batcher = _batcher(watched, reports, most_rows=4)
        await asyncio.gather(*(batcher.predict(_row(1, rows)) for rows in (3, 1, 1, 9, 2)))

    asyncio.run(main())
    assert [report.rows for report in reports] == [4, 1, 9, 2]


def test_full_batch_waits_no_longer(watched: _Watched) -> None:
    reports: list[BatchReport] = []

    async def main() -> None:
        batcher = _batcher(watched, reports, most_rows=4, delay=60.0)
        requests = (batcher.predict(_row(1)) for _ in range(8))
        await asyncio.wait_for(asyncio.gather(*requests), 30)

    asyncio.run(main())
    assert [report.rows for report in reports] == [4, 4]


def test_requests_wait_for_others_no_longer_than_the_delay(watched: _Watched) -> None:
    reports: list[BatchReport] = []

    async def main() -> None:
        batcher = _batcher(watched, reports, delay=0.05)
        first = asyncio.ensure_future(batcher.predict(_row(1)))
        await asyncio.sleep(0.01)
        await asyncio.gather(first, batcher.predict(_row(2)))

    asyncio.run(main())
    assert [report.rows for report in reports] == [2]


def test_failing_request_does_not_fail_those_that_share_its_run(watched: _Watched) -> None:
    async def main() -> list[Any]:
        batcher = _batcher(watched, [])
        return await asyncio.gather(*(batcher.predict(_row(value)) for value in (1, -1, 2)), return_exceptions=True)

    first, failed, last = asyncio.run(main())
    assert isinstance(failed, PredictionFailed)
    assert "the row says so" in str(failed)
    assert first["predictions"].shape == last["predictions"].shape == (1,)


def test_long_runs_leave_the_event_loop_free_and_what_comes_meanwhile_is_one_batch(watched: _Watched) -> None:
    reports: list[BatchReport] = []

    async def main() -> None:
        batcher = _batcher(watched, reports)
        batcher._seconds_per_row = 1.0
        watched.free.clear()
        first = asyncio.ensure_future(batcher.predict(_row(1)))
        while batcher.waiting_rows == 0 and not batcher._scheduled:
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        others = [asyncio.ensure_future(batcher.predict(_row(value))) for value in (2, 3)]
        await asyncio.sleep(0)
        watched.free.set()
        await asyncio.gather(first, *others)
        batcher.close()

    asyncio.run(main())
    assert [report.rows for report in reports] == [1, 2]


def test_full_queue_refuses_and_a_request_that_was_given_up_is_not_run(watched: _Watched) -> None:
    reports: list[BatchReport] = []

    async def main() -> None:
        batcher = _batcher(watched, reports, queue_rows=3)
        given_up = asyncio.ensure_future(batcher.predict(_row(1, 2)))
        kept = asyncio.ensure_future(batcher.predict(_row(1)))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="3 rows already wait"):
            await batcher.predict(_row(1))
        given_up.cancel()
        await kept
        assert batcher.waiting_rows == 0

    # Waiting rows run in the loop's next turn, so the queue fills up within one turn.
    asyncio.run(main())
    assert sum(report.rows for report in reports) in (1, 3)
