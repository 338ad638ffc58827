"""CI's parts, their order, and the parts that a slow machine skips; shell commands stand in for pytest."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import psutil
import pytest

import main
from slices.plan import FIRST, Counts, Limits, Outcome, State, faults, in_order, may_run, pace
from slices.report import lines
from slices.running import Clock, Runner, read_report, run_for
from slices.table import TABLE, Part, Table, load_table
from slices.times import Time, estimate, node_id, rewrite

ROOT = Path(__file__).parents[1]
PARTS = load_table()
SLICES = PARTS.slices
FOLDERS = ("tests/containers", "tests/cluster", "tests/torch")
LIMITS = Limits()


def names(parts: Sequence[Part]) -> list[str]:
    return [part.name for part in parts]


# --- the table


def test_every_test_file_of_an_engine_or_of_pytorch_is_in_one_slice_or_whole_in_the_core() -> None:
    there = [str(file.relative_to(ROOT)) for folder in FOLDERS for file in (ROOT / folder).rglob("test_*.py")]
    core = [file for part in PARTS.mandatory for file in part.files if "::" not in file]
    assert sorted([*core, *(file for part in SLICES for file in part.files)]) == sorted(there)


def test_tests_of_the_core_exist_and_are_deselected_where_their_file_is_whole() -> None:
    contract = "".join(file.read_text() for file in (ROOT / "tests/contracts").glob("*.py"))
    (core,) = [part for part in PARTS.mandatory if part.files]
    ids = [test for test in core.files if "::" in test]
    for test in ids:
        file, *_, name = test.split("::")
        text = (ROOT / file).read_text() + contract
        assert text.count(f"def {name}(") == 1
        assert text.count(f"def {name}") == 1, "pytest deselects whatever begins so"
    deselected = {test for part in SLICES for test in part.deselected}
    assert deselected == set(ids)
    for part in SLICES:
        assert all(f"--deselect={test}" in part.command[-1] for test in part.deselected)


def test_checks_tests_and_the_core_are_mandatory() -> None:
    assert names(PARTS.mandatory) == ["packages", "check", "test", "cluster", "core"]
    assert all(part.mandatory for part in PARTS.mandatory)
    assert not [part for part in SLICES if part.mandatory]


def test_no_test_of_an_engine_or_a_cluster_may_be_skipped() -> None:
    assert names([part for part in PARTS.parts if not part.complete]) == [
        "packages",
        "check",
        "test",
        "cluster",
        "torch",
    ]


def test_every_glob_of_sources_is_of_a_file_that_exists() -> None:
    paths = [str(path.relative_to(ROOT)) for path in ROOT.iterdir() if path.is_file()]
    for folder in ("deployments", "ml_assets", "resources", "tests"):
        paths += [str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*") if path.is_file()]
    for part in SLICES:
        for glob in part.sources:
            assert [path for path in paths if fnmatchcase(path, glob)], f"{part.name}: {glob}"


def test_budget_keeps_to_the_goal() -> None:
    assert sum(part.seconds for part in PARTS.parts) <= PARTS.goal


# --- the order


def test_slices_that_commits_touch_are_first_and_the_newest_commit_counts_most() -> None:
    backup, torch = ["ml_assets/backup/contents.py"], ["README.md", "tests/torch/test_torch_models.py"]
    for turn in range(len(SLICES)):
        assert names(in_order(SLICES, [torch, backup], turn))[:2] == ["torch", "targets"]
        assert names(in_order(SLICES, [[], backup, *[[]] * 9, torch], turn))[:2] == ["targets", "torch"]
        assert sorted(names(in_order(SLICES, [torch, backup], turn))) == sorted(names(SLICES))


def test_each_slice_is_first_within_as_many_commits_as_there_are_slices() -> None:
    for turn in (0, 139, int("c0ffee" * 6, 16)):
        firsts = [in_order(SLICES, [["README.md"]], turn + commit)[0].name for commit in range(len(SLICES))]
        assert sorted(firsts) == sorted(names(SLICES))


def test_each_slice_has_its_turn_even_if_all_commits_touch_the_same_ones() -> None:
    commits = [["ml_assets/executors/docker.py", "deployments/docker/compose.yaml", "uv.lock"]] * 50
    first = {part.name for turn in range(len(SLICES)) for part in in_order(SLICES, commits, turn)[: FIRST + 1]}
    assert first == set(names(SLICES))


# --- what fits


def part(name: str = "a", *, seconds: int = 100, tests: int = 10, mandatory: bool = False, **more: object) -> Part:
    return replace(Part(name, seconds, tests=tests, mandatory=mandatory), **more)  # type: ignore[arg-type]


def ended(part: Part, seconds: float = 0, **more: object) -> Outcome:
    return replace(Outcome(part, State.ENDED, seconds, counts=Counts(passed=10)), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("elapsed", "seconds", "runs"),
    [(0, 100, True), (4299, 700, True), (4299, 702, False), (4300, 1, False), (1000, 4001, False)],
)
def test_slice_begins_before_the_deadline_if_it_ends_in_time(elapsed: float, seconds: int, runs: bool) -> None:
    assert may_run(part(seconds=seconds), [], elapsed, LIMITS) is runs


def test_slower_machine_is_given_less() -> None:
    slow = [ended(part(seconds=100), 150), ended(part(seconds=100), 250), ended(part("cluster", tests=0), 4000)]
    assert pace(slow) == 2.0
    assert pace([ended(part(seconds=100), 10)]) == 1.0
    assert pace([Outcome(part())]) == 1.0
    assert may_run(part(seconds=500), slow, 4000, LIMITS)
    assert not may_run(part(seconds=501), slow, 4000, LIMITS)


def test_what_is_mandatory_runs_after_the_deadline_too() -> None:
    assert may_run(part(seconds=9000, mandatory=True), [], 5000, LIMITS)
    assert not may_run(part(mandatory=True), [], 5160, LIMITS)


def test_deadline_moves_the_other_limits() -> None:
    assert Limits.of(4300) == LIMITS
    assert Limits.of(1000) == Limits(1000, 1700, 1950)


# --- what decides


@pytest.mark.parametrize(
    ("outcome", "fault"),
    [
        (ended(part()), None),
        (Outcome(part()), None),
        (Outcome(part(), State.NOT_FINISHED, counts=Counts(3)), None),
        (Outcome(part(), State.NOT_FINISHED, counts=Counts(3, 1)), "a: 1 tests failed before it was interrupted"),
        (Outcome(part(mandatory=True)), "a is mandatory, and was left"),
        (Outcome(part(mandatory=True), State.NOT_FINISHED), "a is mandatory, and was not finished"),
        (ended(part(), code=2), "a failed with exit code 2"),
        (ended(part(), counts=Counts(3, 1)), "a: 1 tests failed"),
        (ended(part(), counts=Counts()), "a reported no test"),
        (ended(part(tests=0), counts=Counts()), None),
        (ended(part(), counts=Counts(3, 0, ("b",))), None),
        (
            ended(part(complete=True), counts=Counts(3, 0, ("b",))),
            "a: 1 of 4 tests were skipped, which is not allowed",
        ),
    ],
)
def test_what_ran_decides(outcome: Outcome, fault: str | None) -> None:
    assert faults([ended(part("before")), outcome]) == ([fault] if fault else [])


# --- a run of shell commands

REPORT = '<testsuites><testsuite tests="{}">{}</testsuite></testsuites>'
PASSED = '<testcase classname="tests.a" name="b"/>'
FAILED = '<testcase classname="tests.a" name="b"><failure message="no"/></testcase>'
SKIPPED = '<testcase classname="tests.a" name="b"><skipped message="no engine"/></testcase>'


def shell(script: str, *cases: str) -> tuple[str, ...]:
    """Return a command that writes a report and then runs a script."""
    return ("sh", "-c", f"""echo '{REPORT.format(len(cases), "".join(cases))}' >'{{report}}'; {script}""")


def table_of(*parts: Part) -> Table:
    slices = tuple(each for each in parts if not each.mandatory)
    return Table(tuple(each for each in parts if each.mandatory), slices, 2000)


def run(table: Table, folder: Path, limits: Limits = LIMITS) -> tuple[list[Outcome], list[str]]:
    """Return the outcomes of the parts and the final lines of output."""
    clock = Clock()
    outcomes = Runner(table, folder, limits, clock).run([], 0)
    return outcomes, list(lines(outcomes, clock(), table.goal))


def test_run_sums_up_all_parts_and_its_last_line_says_how_many_passed(tmp_path: Path) -> None:
    table = table_of(
        part("packages", tests=0, mandatory=True),
        part("check", tests=0, mandatory=True, command=("true",)),
        part("core", mandatory=True, command=shell("true", PASSED, PASSED)),
        part("torch", command=shell("true", PASSED, SKIPPED)),
    )
    outcomes, printed = run(table, tmp_path)
    assert faults(outcomes) == []
    assert printed[-1] == "3 passed, 0 failed, 1 skipped"
    assert "skipped: tests.a::b: no engine" in printed
    assert [line.split()[0] for line in printed[2:6]] == ["packages", "check", "core", "torch"]


def test_failed_part_fails_the_run_and_the_others_run_all_the_same(tmp_path: Path) -> None:
    table = table_of(
        part("check", tests=0, mandatory=True, command=("false",)),
        part("a", command=shell("exit 1", FAILED)),
        part("b", command=shell("true", PASSED)),
    )
    outcomes, printed = run(table, tmp_path)
    assert faults(outcomes) == ["check failed with exit code 1", "a failed with exit code 1"]
    assert "error: a failed with exit code 1" in printed
    assert printed[-1] == "1 passed, 1 failed, 0 skipped"


def test_nothing_runs_after_the_cluster_has_failed(tmp_path: Path) -> None:
    table = table_of(
        part("cluster", tests=0, mandatory=True, required=True, command=("false",)),
        part("core", mandatory=True, command=shell("true", PASSED)),
        part("a", command=shell("true", PASSED)),
    )
    outcomes, _ = run(table, tmp_path)
    assert [outcome.state for outcome in outcomes] == [State.ENDED, State.LEFT, State.LEFT]


def test_deadline_leaves_and_names_what_has_not_begun(tmp_path: Path) -> None:
    table = table_of(
        part("core", mandatory=True, command=shell("sleep 0.6", PASSED)),
        part("late", seconds=1, tests=17, command=shell("true", PASSED)),
    )
    outcomes, printed = run(table, tmp_path, Limits(deadline=0.3, finish=10, stop=20, grace=1))
    assert faults(outcomes) == []
    assert "left: late (17 tests)" in printed
    assert printed[-1] == "1 passed, 0 failed, 0 skipped"


def test_shorter_slice_runs_where_a_longer_one_does_not_fit(tmp_path: Path) -> None:
    table = table_of(part("long", seconds=50), part("short", seconds=1, command=shell("true", PASSED)))
    outcomes, printed = run(table, tmp_path, Limits(deadline=10, finish=20, stop=30, grace=1))
    assert [outcome.state for outcome in outcomes] == [State.LEFT, State.ENDED]
    assert "left: long (10 tests)" in printed


@pytest.mark.parametrize(
    ("case", "expected"), [(PASSED, []), (FAILED, ["a: 1 tests failed before it was interrupted"])]
)
def test_slice_that_runs_too_long_is_ended_and_its_failed_tests_count(
    case: str, expected: list[str], tmp_path: Path
) -> None:
    table = table_of(part("a", seconds=1, command=shell("sleep 600", case)))
    began = time.monotonic()
    outcomes, printed = run(table, tmp_path, Limits(deadline=2, finish=4, stop=11.5, grace=10))
    assert time.monotonic() - began < 11.5
    assert faults(outcomes) == expected
    assert "not finished: a (1 of 10 tests have run)" in printed


def test_command_that_does_not_end_when_it_is_interrupted_is_killed_with_what_it_started(tmp_path: Path) -> None:
    script = f"trap '' INT; sleep 600 & echo $! >'{tmp_path}/pid'; wait"
    assert run_for(["sh", "-c", script], 1, 0.5) is None
    pid = int((tmp_path / "pid").read_text())
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        while process.status() != psutil.STATUS_ZOMBIE:  # the process that adopted it may not have noticed yet
            time.sleep(0.05)


def test_interrupted_pytest_still_reports_what_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    (tmp_path / "test_slow.py").write_text(
        "import os, signal, time\n"
        "def test_bad(): assert 0\n"
        "def test_good(): pass\n"
        "def test_slow(): time.sleep(1); os.killpg(os.getpgrp(), signal.SIGINT); time.sleep(600)\n"
    )
    report = tmp_path / "report.xml"
    command = [sys.executable, "-m", "pytest", "-p", "xdist", "-n", "1", "--dist", "loadfile", "-c", "/dev/null"]
    assert run_for([*command, f"--junit-xml={report}", str(tmp_path)], 300, 1) == 2
    counts = read_report(report)
    assert (counts.passed, counts.failed) == (1, 1)


def test_report_that_was_not_written_whole_counts_nothing(tmp_path: Path) -> None:
    (tmp_path / "report.xml").write_text("<testsuites><testsuite>")
    assert read_report(tmp_path / "report.xml") == read_report(tmp_path / "none.xml") == Counts()


def test_part_waits_for_its_preparation_and_shows_the_log_of_one_that_failed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    prepared = tmp_path / "prepared"
    good = part(
        "good",
        tests=0,
        mandatory=True,
        command=("test", "-e", str(prepared)),
        prepared_by=("sh", "-c", f"sleep 0.5; touch '{prepared}'"),
    )
    bad = part(
        "bad", tests=0, mandatory=True, command=("true",), prepared_by=("sh", "-c", "echo it does not work; exit 3")
    )
    outcomes, _ = run(table_of(good, bad), tmp_path / "reports")
    assert faults(outcomes) == []
    shown = capfd.readouterr().out
    assert "The preparation of bad failed with exit code 3" in shown
    assert "it does not work" in shown
    assert "preparation of good" not in shown


def test_interrupt_reaches_parts_of_a_run_that_was_started_with_it_ignored(tmp_path: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, '.ci'); import main; from slices.running import run_for;"
        "main.heed_signals(); sys.exit(run_for(['sleep', '60'], 0.2, 30) is not None)"
    )
    shielded = f"""trap '' INT; exec "{sys.executable}" -c "{program}" """
    began = time.monotonic()
    assert run_for(["sh", "-c", shielded], 20, 1) == 0
    assert time.monotonic() - began < 15
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN


@pytest.mark.parametrize(("case", "code"), [(PASSED, 0), (FAILED, 1)])
def test_exit_code_says_whether_what_ran_passed(
    case: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    table = table_of(
        part("cluster", tests=0, mandatory=True, command=("false",)),
        part("core", mandatory=True, command=shell("true", PASSED)),
        part("fits", seconds=1, command=shell("true", case)),
        part("does not", seconds=3000, tests=17),
    )
    monkeypatch.setattr(main, "load_table", lambda: table)
    monkeypatch.setattr(main, "FOLDER", tmp_path)
    monkeypatch.setattr(main, "heed_signals", lambda: None)
    monkeypatch.setenv("ML_ASSETS_CI_DEADLINE", "2000")
    monkeypatch.setenv("KUBECONFIG", "given, so that no cluster is made")
    monkeypatch.chdir(ROOT)
    assert main.main([]) == code
    printed = capfd.readouterr().out.splitlines()
    assert "left: does not (17 tests)" in printed
    assert printed[-1] == f"{2 - code} passed, {code} failed, 0 skipped"


def test_commits_decide_by_the_paths_that_they_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert (main.changed_paths(), main.turn()) == ([], 0), "there is no repository"
    for number, names in enumerate((["a/b.py", "c"], ["d"])):
        for name in names:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(str(number))
        for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "Change"]):
            author = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
            subprocess.run(["git", *author, *command], check=True)
    assert [sorted(filter(None, paths)) for paths in main.changed_paths()] == [["d"], ["a/b.py", "c"]]
    assert main.turn() == 2
    subprocess.run(["git", "clone", "-q", "--depth=1", f"file://{tmp_path}", "shallow"], check=True)
    monkeypatch.chdir(tmp_path / "shallow")
    assert main.turn() > 2


# --- the budget


def test_budget_is_rewritten_from_reports(tmp_path: Path) -> None:
    table = tmp_path / "slices.toml"
    shutil.copy(TABLE, table)
    executor, contract = "tests.cluster.test_kubernetes_executor.TestKubernetesExecutor", PARTS.mandatory[-1].files[0]
    cases = {
        ("tests.cluster.test_reference_pipeline", "test_a[b.c]"): 100,
        (executor, "test_b"): 30,
        (executor, contract.split("::")[-1]): 500,
        ("tests.test_ci", "test_c"): 7,
    }
    text = "".join(f'<testcase classname="{of}" name="{name}" time="{time}"/>' for (of, name), time in cases.items())
    suite = f'<testsuites><testsuite tests="4" time="318.5">{text}</testsuite></testsuites>'  # run by two workers
    (tmp_path / "report.xml").write_text(suite)
    assert rewrite([tmp_path / "report.xml"], table) == ["test", "core", "kubernetes"]
    found = {part.name: (part.seconds, part.tests) for part in load_table(table).parts}
    assert (found["test"], found["core"], found["kubernetes"]) == ((17, 1), (510, 1), (110, 2))
    assert found["docker"] == next((part.seconds, part.tests) for part in SLICES if part.name == "docker")


def test_session_with_two_workers_takes_half_the_time_unless_one_file_is_longer() -> None:
    assert estimate({"a.py::b": Time(10, 5), "b.py::b": Time(10, 5), "c.py::b": Time(20, 10)}) == 30
    assert estimate({"a.py::b": Time(10, 5), "b.py::b": Time(90, 45)}) == 100


def test_reports_name_tests_by_module_and_class() -> None:
    assert node_id("tests.cluster.test_dns", "test_a") == "tests/cluster/test_dns.py::test_a"
    assert (
        node_id("tests.containers.test_buildkit.TestBuildKit", "t")
        == "tests/containers/test_buildkit.py::TestBuildKit::t"
    )
