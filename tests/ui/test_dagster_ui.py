"""What people see and do in the Dagster UI, in a real browser."""

import re

import mlflow
from playwright.sync_api import Locator, Page, expect

from ml_assets.flight_delays.definitions import JOB_NAME
from ml_assets.flight_delays.training import TrainConfig
from ml_assets.presentation import NOT_CONTAINERIZED
from tests.ui.conftest import PROJECT, Deployment

JANUARY, FEBRUARY, MARCH = "2013-01-01", "2013-02-01", "2013-03-01"
LOCATION = "/locations/ml_assets"


def open_partition(page: Page, deployment: Deployment, asset: str, partition: str) -> None:
    page.goto(f"{deployment.dagster}/assets/{asset}?view=partitions&partition={partition}")
    expect(row(page, "data version")).to_be_visible()


def row(page: Page, key: str) -> Locator:
    """The row of a metadata entry."""
    return page.locator("tr").filter(has=page.locator("td:first-child").get_by_text(key, exact=True))


def test_model_shows_its_versions_image_and_commit(page: Page, deployment: Deployment) -> None:
    record = deployment.record("delay_model", FEBRUARY)
    open_partition(page, deployment, "delay_model", FEBRUARY)
    expect(row(page, "data version")).to_contain_text(record.data_version)
    expect(row(page, "image")).to_contain_text(NOT_CONTAINERIZED)
    expect(row(page, "commit")).to_contain_text(record.source.commit or "no commit")
    expect(row(page, "registered model")).to_contain_text("models:/flight-delay/2")
    expect(row(page, "environment")).to_contain_text(record.environment.environment_digest)
    read = [one for one in record.inputs if one.asset == "departures"]
    assert [one.partition for one in read] == [JANUARY, FEBRUARY]
    for one in record.inputs:
        expect(row(page, "inputs")).to_contain_text(one.data_version)
