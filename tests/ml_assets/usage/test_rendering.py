import io
import json

import dagster as dg
from rich.console import Console, RenderableType

from ml_assets.resources.usage import Asked
from ml_assets.usage.history import AssetHistory
from ml_assets.usage.rendering import render_usage, usage_metadata, usage_to_json
from ml_assets.usage.summary import summarize
from tests.ml_assets.usage.test_summary import GIB, MONTH_AGO, NOW, gpu, taken


def shown(answer: RenderableType) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(answer)
    return console.export_text()


FOUND = summarize(
    [
        AssetHistory("model", 4, (taken(GIB, cost=0.5, asked=Asked(cpus=2, memory_bytes=4 * GIB), gpu=gpu(40)),)),
        AssetHistory("frame", 4, (taken(),)),
    ],
    MONTH_AGO,
    NOW,
)


def test_people_see_what_is_asked_used_advised_and_paid() -> None:
    text = shown(render_usage(FOUND, "since May"))
    (row,) = [line for line in text.splitlines() if line.startswith("model ") and "Gi" in line]
    for part in ("2 CPUs, 4Gi", "1.0 GiB / 1.0 GiB / 1.0 GiB", "0.8 / 0.8 / 0.8", "1 CPUs, 1536Mi", "0.5000", "2.00"):
        assert part in row
    assert "40 % / 40 % / 40 %" in text
    assert "model: only 1 materialization measured" in text


def test_nothing_measured_is_said() -> None:
    assert render_usage([], "since May") == "no usage was measured since May"


def test_machines_get_plain_values() -> None:
    model, frame = json.loads(json.dumps(usage_to_json(FOUND)))
    assert model["memory"] == {"p50": GIB, "p95": GIB, "maximum": GIB}
    assert model["asked"] == {"cpus": 2.0, "memory_bytes": 4 * GIB, "accelerators": 0}
    assert model["cost_per_month"] == 2.0
    assert model["advice"]["memory_bytes"] == 1536 * 2**20
    assert (frame["asked"], frame["cost_mean"], frame["gpu_utilization"]) == (None, None, None)


def test_the_ui_shows_a_table_and_plots_the_cost() -> None:
    metadata = usage_metadata(FOUND, "since May")
    text = str(metadata["usage"].value)
    assert (
        "| model | 4 | 2 CPUs, 4Gi | 1.0 GiB / 1.0 GiB / 1.0 GiB | 10.0 / 10.0 / 10.0 | 1 CPUs, 1536Mi | 2.00 |" in text
    )
    assert "- model: only 1 materialization measured" in text
    assert metadata["cost per month"] == dg.MetadataValue.float(2.0)
    assert metadata["step hours"] == dg.MetadataValue.float(80 / 3600)
