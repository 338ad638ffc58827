"""Contract with prometheus-client: files of several processes, named by place, on which `serving.metrics` relies."""

import inspect
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector


def test_class_of_values_is_made_for_a_name_of_the_process() -> None:
    assert list(inspect.signature(values.MultiProcessValue).parameters) == ["process_identifier"]
    assert hasattr(values, "ValueClass")


def test_value_goes_on_where_the_last_process_of_its_place_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    for _ in range(2):
        monkeypatch.setattr(values, "ValueClass", values.MultiProcessValue(lambda: "place-1"))
        Counter("answered", "Requests.", registry=CollectorRegistry()).inc()
    assert [file.name for file in tmp_path.iterdir()] == ["counter_place-1.db"]
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(tmp_path))
    assert b"answered_total 2.0" in generate_latest(registry)
