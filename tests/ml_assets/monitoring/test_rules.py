"""Alert rules and the dashboard are valid for Prometheus, use existing metrics, and fire when they should."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from ml_assets.monitoring.prometheus import DagsterCollector
from tests.conftest import require_program

FOLDER = Path(__file__).parents[3] / "deployments" / "monitoring"
RULES = FOLDER / "alerts.yml"
METRIC = re.compile(r"\bml_assets_[a-z_]+")
OOM = '{cause="out of memory"}'
LOUD = {
    "MetricsMissing": {"ml_assets_up": "0x60"},
    "ScheduledRunFailed": {'ml_assets_schedule_last_run_failed{schedule="n"}': "1x60"},
    "NightMissed": {'ml_assets_schedule_last_success_timestamp_seconds{schedule="n"}': "-100000x60"},
    "StepsOutOfMemory": {f"ml_assets_step_failures_total{OOM}": "0x30 1x30"},
    "StepsRestartedRepeatedly": {'ml_assets_step_restarts_total{cause="preempted"}': "0+1x60"},
    "MemoryNearlyFull": {
        'ml_assets_asset_memory_needed_bytes{asset="a"}': "95x60",
        'ml_assets_asset_memory_asked_bytes{asset="a"}': "100x60",
    },
    "GpuIdle": {
        'ml_assets_asset_gpu_utilization_ratio{asset="a"}': "0.05x60",
        'ml_assets_asset_compute_seconds{asset="a"}': "600x60",
    },
    "GpuSaturated": {
        'ml_assets_asset_gpu_utilization_ratio{asset="a"}': "0.99x60",
        'ml_assets_asset_compute_seconds{asset="a"}': "7200x60",
    },
    "QueueStands": {"ml_assets_queue_oldest_seconds": "4000x60"},
    "PoolFull": {
        'ml_assets_pool_steps_waiting{pool="g"}': "2x90",
        'ml_assets_pool_slots_claimed{pool="g"}': "4x90",
        'ml_assets_pool_slots{pool="g"}': "4x90",
    },
}
"""Series for which each alert fires after an hour."""
CALM = {
    "ml_assets_up": "1x90",
    'ml_assets_schedule_last_run_failed{schedule="n"}': "0x90",
    'ml_assets_schedule_last_success_timestamp_seconds{schedule="n"}': "0x90",
    f"ml_assets_step_failures_total{OOM}": "3x90",
    'ml_assets_step_restarts_total{cause="preempted"}': "0x30 2x60",
    'ml_assets_asset_memory_needed_bytes{asset="a"}': "50x90",
    'ml_assets_asset_memory_asked_bytes{asset="a"}': "100x90",
    'ml_assets_asset_gpu_utilization_ratio{asset="a"}': "0.6x90",
    'ml_assets_asset_compute_seconds{asset="a"}': "7200x90",
    "ml_assets_queue_oldest_seconds": "30x90",
    'ml_assets_pool_steps_waiting{pool="g"}': "0x90",
    'ml_assets_pool_slots_claimed{pool="g"}': "4x90",
    'ml_assets_pool_slots{pool="g"}': "4x90",
}


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return list(group["rules"])


def dashboard_expressions() -> list[str]:
    panels = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


@pytest.fixture(scope="module")
def promtool() -> str:
    return require_program("promtool", "prometheus")


def run(promtool: str, *arguments: str | Path) -> None:
    done = subprocess.run([promtool, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_are_valid(promtool: str) -> None:
    run(promtool, "check", "rules", RULES)


def _firing(name: str) -> str:
    return f'count(ALERTS{{alertname="{name}", alertstate="firing"}}) or vector(0)'


def _case(series: dict[str, str], minutes: int, heard: dict[str, int]) -> dict[str, Any]:
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": _firing(name), "eval_time": f"{minutes}m", "exp_samples": [{"labels": "{}", "value": count}]}
            for name, count in heard.items()
        ],
    }


def test_each_alert_is_heard_when_it_should_be_and_none_when_all_is_well(promtool: str, tmp_path: Path) -> None:
    assert LOUD.keys() == {alert["alert"] for alert in alerts()}
    cases = [_case(series, 80 if name == "PoolFull" else 40, {name: 1}) for name, series in LOUD.items()]
    cases.append(_case(CALM, 85, dict.fromkeys(LOUD, 0)))
    file = tmp_path / "cases.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": cases}))
    run(promtool, "test", "rules", file)


def test_each_alert_says_what_happened_and_what_to_do() -> None:
    for alert in alerts():
        assert {"summary", "next_step"} == alert["annotations"].keys()
        assert alert["labels"]["severity"] in ("info", "warning", "critical")


def test_what_the_dashboard_asks_is_valid(promtool: str, tmp_path: Path) -> None:
    rules = [{"record": f"panel:{number}", "expr": each} for number, each in enumerate(dashboard_expressions())]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    run(promtool, "check", "rules", file)


def _told(instance: dg.DagsterInstance) -> Iterator[str]:
    for family in DagsterCollector(instance).collect():
        yield f"{family.name}_total" if family.type == "counter" else family.name


def test_rules_and_dashboard_are_about_metrics_that_there_are(instance: dg.DagsterInstance) -> None:
    told = set(_told(instance))
    asked = {name for alert in alerts() for name in METRIC.findall(alert["expr"])}
    shown = {name for each in dashboard_expressions() for name in METRIC.findall(each)}
    assert asked <= told
    assert shown <= told
    assert told <= shown | asked, "a metric that nobody looks at"


def test_panels_stand_side_by_side_and_have_numbers_of_their_own() -> None:
    panels = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)
