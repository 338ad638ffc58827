import pytest

from ml_assets.executors.failures import INTERRUPTED_EXIT, REPLACED_EXIT, Failure, FailureCause, Reaction


@pytest.mark.parametrize("cause", list(FailureCause))
def test_every_cause_has_a_reaction_and_a_hint(cause: FailureCause) -> None:
    assert cause.reaction in Reaction
    assert cause.hint
    assert not cause.hint.endswith(".")


@pytest.mark.parametrize(
    ("code", "cause", "detail"),
    [
        (0, FailureCause.SILENT, "the process exited with status 0 without a success or failure event"),
        (1, FailureCause.CRASHED, "exit status 1"),
        (139, FailureCause.CRASHED, "exit status 139 (SIGSEGV)"),
        (137, FailureCause.CRASHED, "exit status 137 (SIGKILL)"),
        (255, FailureCause.CRASHED, "exit status 255"),
        (REPLACED_EXIT, FailureCause.DELETED, "another container of the same launch replaced it"),
        (INTERRUPTED_EXIT, FailureCause.DELETED, "the process was asked to end, but not by its run"),
    ],
)
def test_exit_status_tells_the_cause(code: int, cause: FailureCause, detail: str) -> None:
    failure = Failure.of_exit(code)
    assert (failure.cause, failure.detail, failure.exit_code) == (cause, detail, code)


def test_detail_of_the_engine_stands_beside_the_exit_status() -> None:
    assert Failure.of_exit(2, detail="no such file").detail == "exit status 2; no such file"


def test_description_has_cause_hint_events_and_log() -> None:
    failure = Failure(FailureCause.EVICTED, "The node was low on memory.").with_evidence(["line"], ["12:00:00 Evicted"])
    assert failure.described() == (
        "evicted: The node was low on memory. Next: see the events for the resource that the node lacked; request as "
        "much as the step uses.\nEvents of the engine:\n  12:00:00 Evicted\nLast lines of the log:\n  line"
    )
