from pathlib import Path

from ml_assets.code_version.coverage import Coverage, CoveredModule
from ml_assets.code_version.version import coverage
from ml_assets.flight_delays import training


def test_coverage_names_files_symbols_and_lines() -> None:
    file = Path(training.__file__)
    covered = coverage(training.predict)
    assert covered.modules[file].name == "ml_assets.flight_delays.training"
    assert covered.covers_code(file, "unseen", training.unseen.__code__.co_firstlineno)
    assert covered.covers_code(file, "<module>", 1)
    assert not covered.covers_code(file, "not_there", 1)
    assert not covered.covers_code(file.with_name("checks.py"), "<module>", 1)


def test_code_without_a_name_of_its_own_is_found_by_its_line() -> None:
    module = CoveredModule("m", frozenset({"TABLE"}), ((3, 5),))
    assert [module.covers("<lambda>", line) for line in (2, 3, 5, 6)] == [False, True, True, False]
    assert module.covers("TABLE.inner", 100)
    assert CoveredModule("m", None).covers("anything", 1)


def test_files_are_found_by_their_absolute_path(tmp_path: Path) -> None:
    covered = Coverage(files=frozenset({tmp_path / "q.sql"}))
    assert covered.covers_file(tmp_path / "q.sql")
    assert not covered.covers_file(tmp_path / "r.sql")
