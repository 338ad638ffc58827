"""The report at the end of a run."""

from collections.abc import Iterator, Sequence

from slices.plan import Outcome, State, faults


def lines(outcomes: Sequence[Outcome], elapsed: float, goal: int) -> Iterator[str]:
    """Yield each part's time and budget, then the skipped, left and failed tests, and the sum of all tests."""
    yield ""
    yield f"{'part':<14}{'seconds':>9}{'budget':>9}"
    for each in outcomes:
        time = "-" if each.state is State.LEFT else f"{each.seconds:,.0f}"
        note = "" if each.state is State.ENDED else f"  {each.state.value}"
        yield f"{each.part.name:<14}{time:>9}{each.part.seconds:>9,}{note}"
    yield f"{'all':<14}{elapsed:>9,.0f}{goal:>9,}"
    for each in outcomes:
        for skipped in each.counts.skipped:
            yield f"skipped: {skipped}"
    for each in outcomes:
        if each.state is State.LEFT:
            yield f"left: {each.part.name} ({each.part.tests} tests)"
        elif each.state is State.NOT_FINISHED:
            yield f"not finished: {each.part.name} ({each.counts.total} of {each.part.tests} tests have run)"
    for fault in faults(outcomes):
        yield f"error: {fault}"
    counts = [each.counts for each in outcomes]
    yield (
        f"{sum(each.passed for each in counts)} passed, {sum(each.failed for each in counts)} failed, "
        f"{sum(len(each.skipped) for each in counts)} skipped"
    )
