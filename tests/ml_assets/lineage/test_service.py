"""All questions can be asked in Python, with only an instance."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from ml_assets.lineage import Lineage
from ml_assets.lineage.impact import Urgency
from ml_assets.lineage.why import Status, Summary, Why
from ml_assets.resources.errors import UnknownReference
from tests.ml_assets.lineage.why_assets import ASSETS, definitions, departures, flights


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def test_every_question_is_answered_on_an_instance(instance: dg.DagsterInstance, resources: dict[str, Any]) -> None:
    for month in ("1", "2"):
        dg.materialize(
            ASSETS, selection=[flights, departures], partition_key=month, instance=instance, resources=resources
        )
    lineage = Lineage(instance)
    traced = lineage.trace("departures@1", down=False)
    assert [node.asset for node in traced.graph.nodes.values()] == ["flights", "departures"]
    assert (traced.reference, traced.downstream) == ("departures@1", None)
    assert [each.urgency for each in lineage.impact("flights@1").affected] == [Urgency.CURRENT, Urgency.CURRENT]
    assert [each.what for each in lineage.diff("departures@1", "departures@2")][:2] == ["flights@1", "flights@2"]
    one, all_of_it = lineage.why("departures@1", definitions), lineage.why("departures", definitions)
    assert isinstance(one, Why)
    assert one.status is Status.FRESH
    assert isinstance(all_of_it, Summary)
    assert all_of_it.statuses[Status.MISSING] == 1
    with pytest.raises(UnknownReference, match="models:/name/version or models:/name@alias"):
        lineage.trace("models:/delay@champion")


@pytest.mark.parametrize("event", [dg.AssetMaterialization, dg.AssetObservation])
def test_what_was_made_of_an_asset_is_affected_when_the_same_was_recorded_again(
    instance: dg.DagsterInstance, event: type[dg.AssetMaterialization | dg.AssetObservation]
) -> None:
    @dg.asset(deps=["raw"])
    def report() -> None: ...

    raw = event("raw", tags={"dagster/data_version": "v"})
    instance.report_runless_asset_event(raw)
    dg.materialize([report], instance=instance)
    instance.report_runless_asset_event(raw)
    lineage = Lineage(instance)
    for reference in ("raw", "v"):
        found = lineage.impact(reference)
        assert ([each.node.asset for each in found.affected], found.superseded) == (["report", "raw"], 1), reference
    trace = lineage.trace("raw", up=False)
    assert [node.asset for node in trace.graph.nodes.values()] == ["raw", "report", "raw"]


def test_the_package_is_imported_without_what_only_questions_need() -> None:
    code = "import sys, ml_assets.lineage; print([n for n in sys.modules if n.startswith(('dagster', 'sqlalchemy'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
