"""The states of a launch: transitions, refused transitions, and the list of a step's launches."""

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.executors.engine import ContainerState, ContainerStatus
from ml_assets.executors.failures import Failure, FailureCause
from ml_assets.executors.launches import ContainerLaunch, Launches, LaunchState, container_name
from ml_assets.placement import Placement
from tests.ml_assets.executors.sample_requests import IMAGE, RUN

DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
SUCCESS: Any = SimpleNamespace(is_step_success=True)
FAILURE: Any = SimpleNamespace(is_step_success=False)
"""Events that end an attempt."""
EVICTED, WRONG_IMAGE = Failure(FailureCause.EVICTED, "by a test"), Failure(FailureCause.WRONG_IMAGE, "by a test")
PLACEMENT = Placement(step="model", image=IMAGE, pool="cpu", cpus=1, memory="1Gi")
STATES = LaunchState
OPEN = set(LaunchState) - {STATES.ENDING, STATES.ENDED}
AT_WORK = {STATES.ORDERED, STATES.ACCEPTED, STATES.RUNNING}

Transition = Callable[[ContainerLaunch], None]
TRANSITIONS: dict[str, tuple[Transition, set[LaunchState], LaunchState]] = {
    "place": (lambda launch: launch.place(PLACEMENT), {STATES.WAITING}, STATES.WAITING),
    "order": (lambda launch: launch.order(1000.0), {STATES.WAITING}, STATES.ORDERED),
    "accept": (lambda launch: launch.accept(), {STATES.ORDERED}, STATES.ACCEPTED),
    "run": (lambda launch: launch.run(), AT_WORK, STATES.RUNNING),
    "succeed": (lambda launch: launch.succeed(SUCCESS), AT_WORK, STATES.SUCCEEDED),
    "give_up": (lambda launch: launch.give_up(EVICTED), {*AT_WORK, STATES.SUCCEEDED}, STATES.GIVEN_UP),
    "fail": (lambda launch: launch.fail(), OPEN - {STATES.FAILED}, STATES.FAILED),
    "close": (lambda launch: launch.close(FAILURE), OPEN - {STATES.WAITING}, STATES.ENDING),
    "finish": (lambda launch: launch.finish(), {STATES.ENDING, STATES.GIVEN_UP}, STATES.ENDED),
}


def launch_in(state: LaunchState) -> ContainerLaunch:
    ordered_at = None if state is STATES.WAITING else 1000.0
    return ContainerLaunch(a_step(), 0, "step-model-0", state, since=0.0, where=PLACEMENT, ordered_at=ordered_at)


def a_step(key: str = "model") -> Any:
    return SimpleNamespace(key=key)


@pytest.mark.parametrize(
    ("name", "state"),
    [(name, state) for name, (_, allowed, _) in TRANSITIONS.items() for state in STATES if state in allowed],
)
def test_launch_is_moved_from_each_state_that_allows_it(name: str, state: LaunchState) -> None:
    move, _, expected = TRANSITIONS[name]
    launch = launch_in(state)
    move(launch)
    assert launch.state is expected
    assert (launch.since == 0.0) is (expected is state)


@pytest.mark.parametrize(
    ("name", "state"),
    [
        (name, state)
        for name, (_, allowed, _) in TRANSITIONS.items()
        for state in STATES
        if state not in allowed and (name, state) != ("close", STATES.WAITING)
    ],
)
def test_launch_is_not_moved_from_any_other_state(name: str, state: LaunchState) -> None:
    move, _, expected = TRANSITIONS[name]
    launch = launch_in(state)
    with pytest.raises(RuntimeError, match=f"^launch step-model-0 is {state} and cannot become {expected}$"):
        move(launch)
    assert launch.state is state


def test_placement_gets_the_launchs_number() -> None:
    launch = ContainerLaunch(a_step(), 3, "step-model-3")
    with pytest.raises(RuntimeError, match="launch step-model-3 has no placement"):
        launch.order(1000.0)
    launch.place(PLACEMENT)
    assert launch.placement == PLACEMENT.model_copy(update={"number": 3})
    assert not launch.was_ordered
    launch.order(1000.0)
    assert (launch.ordered_at, launch.has_container) == (1000.0, True)


@pytest.mark.parametrize(
    ("before", "seen", "after"),
    [
        (STATES.ORDERED, ContainerState.PENDING, STATES.ACCEPTED),
        (STATES.ORDERED, ContainerState.RUNNING, STATES.RUNNING),
        (STATES.ORDERED, ContainerState.FAILED, STATES.ACCEPTED),
        (STATES.ACCEPTED, ContainerState.PENDING, STATES.ACCEPTED),
        (STATES.RUNNING, ContainerState.PENDING, STATES.RUNNING),
        (STATES.RUNNING, ContainerState.SUCCEEDED, STATES.RUNNING),
    ],
)
def test_what_the_engine_reports_moves_a_launch_forward_only(
    before: LaunchState, seen: ContainerState, after: LaunchState
) -> None:
    launch = launch_in(before)
    launch.observe(ContainerStatus(seen, identity="one"))
    launch.observe(ContainerStatus(seen))
    assert launch.state is after
    assert launch.container.identity == "one", "it is kept where the engine does not say it"


def test_success_counts_when_the_launch_is_closed_by_it() -> None:
    launch = launch_in(STATES.RUNNING)
    assert not launch.has_succeeded
    launch.succeed(SUCCESS)
    launch.close(SUCCESS)
    assert launch.has_succeeded
    failed = launch_in(STATES.RUNNING)
    failed.close(FAILURE)
    assert not failed.has_succeeded


@pytest.mark.parametrize("state", [STATES.WAITING, STATES.FAILED])
def test_launch_that_was_never_ordered_ends_without_a_container(state: LaunchState) -> None:
    launch = ContainerLaunch(a_step(), 0, "step-model-0", state)
    launch.close(FAILURE)
    assert launch.state is STATES.ENDED


def test_nothing_counts_that_comes_from_another_image() -> None:
    launch, other = launch_in(STATES.RUNNING), launch_in(STATES.SUCCEEDED)
    launch.give_up(EVICTED)
    other.give_up(WRONG_IMAGE)
    other.fail()
    assert (launch.is_disowned, other.is_disowned) == (False, True)


# --- all launches of a run ---


@pytest.fixture
def launches() -> Launches:
    return Launches(RUN)


def ordered(launches: Launches, placement: Placement = PLACEMENT) -> ContainerLaunch:
    launch = launches.add(a_step(), placement)
    launch.order(1000.0)
    return launch


def test_step_has_one_open_launch(launches: Launches) -> None:
    first = launches.add(a_step())
    assert launches.open("model") is first
    with pytest.raises(RuntimeError, match=f"step model has an open launch, {first.name}"):
        launches.add(a_step())
    assert launches.open("other") is None


def test_next_attempt_waits_beside_the_container_of_the_one_before(launches: Launches) -> None:
    first = ordered(launches)
    first.close(FAILURE)
    second = launches.add(a_step())
    assert (first.number, second.number) == (0, 1)
    assert (launches.open("model"), launches.ending("model")) == (second, [first])
    assert launches.under_way() == []
    first.finish()
    second.place(PLACEMENT)
    second.order(1001.0)
    assert (launches.ending(), launches.under_way()) == ([], [second])
    assert [launches.find("model", number) for number in (0, 1, 2)] == [first, second, None]


def test_attempt_is_launched_again_once_its_launch_was_given_up(launches: Launches) -> None:
    launch = ordered(launches)
    with pytest.raises(RuntimeError, match="is ordered and cannot become ended"):
        launches.relaunch(launch, PLACEMENT.again())
    launch.give_up(EVICTED)
    again = launches.relaunch(launch, launch.placement.again(interruptions=1))
    assert (launch.state, again.state, again.number) == (STATES.ENDED, STATES.WAITING, 1)
    assert again.placement.interruptions == 1
    assert list(launches) == [launch, again]


def test_number_of_a_launch_that_was_never_ordered_is_given_again(launches: Launches) -> None:
    launches.add(a_step()).close(FAILURE)
    again = launches.add(a_step())
    assert again.number == 0
    assert launches.find("model", 0) is again


def test_placement_of_a_predecessor_says_the_number(launches: Launches) -> None:
    launch = ordered(launches, PLACEMENT.model_copy(update={"number": 4}))
    assert (launch.number, launch.name) == (4, container_name(RUN, "model", 4))
    launches.forget("model")
    assert list(launches) == []
    assert launches.add(a_step()).number == 0


def test_steps_with_the_newest_launch_come_last(launches: Launches) -> None:
    launches.add(a_step("first")).close(FAILURE)
    launches.add(a_step("second"))
    launches.add(a_step("first"))
    assert [launch.step.key for launch in launches] == ["second", "first"]


# --- names of containers ---


@given(st.text(max_size=300), st.integers(min_value=0, max_value=99_999))
def test_name_is_one_that_engines_take(step: str, number: int) -> None:
    assert DNS_LABEL.fullmatch(container_name(RUN, step, number))


def test_name_is_readable_and_of_one_run_step_and_launch() -> None:
    name = container_name(RUN, "reports__delay_model[2013]", 3)
    assert re.fullmatch(r"step-reports-delay-model-2013-[0-9a-f]{12}-3", name)
    assert name == container_name(RUN, "reports__delay_model[2013]", 3)
    others = [("other", "reports__delay_model[2013]"), (RUN, "reports__delay_model_2013")]
    assert all(container_name(run, step, 3) != name for run, step in others)
