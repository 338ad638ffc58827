"""The Dagster UI in a real browser: what users see and do."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, HttpCredentials, Locator, Page, expect

from ml_assets.artifacts.metadata import NOT_CONTAINERIZED
from ml_assets.definitions import defs
from ml_assets.flight_delays import assets
from ml_assets.flight_delays.definitions import JOB_NAME, nightly_retraining
from ml_assets.flight_delays.training import TrainConfig
from ml_assets.resources.identity import AssetPartition
from ml_assets.resources.provenance import LaunchKind
from tests.ui.conftest import PROJECT, Deployment
from tests.ui.login import PASSWORD, USER, Sites, sites

__all__ = ["sites"]  # a fixture

JANUARY, FEBRUARY, MARCH = "2013-01-01", "2013-02-01", "2013-03-01"
SCHEDULE = nightly_retraining().name
RUN_MILLISECONDS = 400_000


def open_partition(page: Page, deployment: Deployment, asset: str, partition: str) -> None:
    page.goto(f"{deployment.dagster}/assets/{asset}?view=partitions&partition={partition}")
    expect(row(page, "data version")).to_be_visible()


def row(page: Page, key: str) -> Locator:
    """Return the row of a metadata entry."""
    return page.locator("tr").filter(has=page.locator("td:first-child").get_by_text(key, exact=True))


def test_model_shows_its_versions_image_and_commit(page: Page, deployment: Deployment) -> None:
    record = deployment.record("delay_model", FEBRUARY)
    open_partition(page, deployment, "delay_model", FEBRUARY)
    expect(row(page, "data version")).to_contain_text(record.data_version)
    expect(row(page, "image")).to_contain_text(NOT_CONTAINERIZED)
    expect(row(page, "commit")).to_contain_text(record.source.commit or "no commit")
    expect(row(page, "registered model")).to_contain_text("models:/flight-delay/2")
    expect(row(page, "environment")).to_contain_text(record.environment.environment_digest)


def test_model_shows_the_versions_that_it_was_made_from(page: Page, deployment: Deployment) -> None:
    inputs = deployment.record("delay_model", FEBRUARY).inputs
    assert {(one.asset, one.partition) for one in inputs} == {
        ("departures", JANUARY),
        ("departures", FEBRUARY),
        ("images/train", None),
    }
    open_partition(page, deployment, "delay_model", FEBRUARY)
    for one in inputs:
        line = row(page, "inputs").locator("tr").filter(has_text=one.data_version)
        expect(line).to_contain_text(str(AssetPartition(one.asset, one.partition)))


def test_model_shows_parameters_and_metrics(page: Page, deployment: Deployment) -> None:
    open_partition(page, deployment, "delay_model", FEBRUARY)
    for name, value in TrainConfig().model_dump(mode="json").items():
        line = row(page, "parameters").locator("tr").filter(has=page.get_by_text(name, exact=True))
        expect(line.locator("td").last).to_have_text(str(value))
    metrics = deployment.metrics("delay_model", FEBRUARY)
    assert {"mae", "baseline_mae", "skill"} <= metrics.keys()
    for name, value in metrics.items():
        shown = float(row(page, name).locator("td").nth(1).inner_text())
        assert shown == pytest.approx(value, rel=1e-5)


def test_plots_of_a_model_are_pictures(page: Page, deployment: Deployment) -> None:
    open_partition(page, deployment, "delay_model", FEBRUARY)
    for name in ("importance", "by_hour"):
        row(page, f"plot {name}").get_by_text("Show Markdown").click()
        picture = page.get_by_role("img", name=name)
        expect(picture).to_be_visible()
        picture.evaluate("image => image.decode()")
        assert picture.evaluate("image => image.naturalWidth") > 0
        if name != "by_hour":
            page.get_by_role("button", name="Close", exact=True).click()
            expect(picture).to_be_hidden()


def test_model_links_to_its_run_in_mlflow(page: Page, deployment: Deployment) -> None:
    run = deployment.record("delay_model", FEBRUARY).mlflow
    assert run
    open_partition(page, deployment, "delay_model", FEBRUARY)
    with page.context.expect_page() as opened:
        row(page, "MLflow run").get_by_role("link").first.click()
    shown = opened.value
    # On a busy machine MLflow's page may give up with an error of its own. Reload it then, as a person would.
    failed = shown.get_by_role("heading", name="Something went wrong")
    shown.add_locator_handler(failed, lambda: shown.reload(), times=3, no_wait_after=True)
    shown.set_viewport_size({"width": 1440, "height": 2000})
    expect(shown.get_by_text(f"delay_model@{FEBRUARY}").first).to_be_visible()
    expect(shown.get_by_text(run.run_id, exact=True).first).to_be_visible()
    expect(shown.get_by_text("Finished").first).to_be_visible()
    expect(shown.get_by_text("flight-delay").first).to_be_visible()


def test_model_links_to_its_trace_page(page: Page, deployment: Deployment) -> None:
    open_partition(page, deployment, "delay_model", FEBRUARY)
    with page.context.expect_page() as opened:
        row(page, "lineage").get_by_role("link").first.click()
    shown = opened.value
    heading = shown.locator("#record h2")
    expect(heading).to_have_text(re.compile(rf"^delay_model@{FEBRUARY}#\d+$"))
    expect(shown.locator("#summary")).to_contain_text(re.compile(r"[1-9]\d* downstream"))
    with shown.context.expect_page() as back:
        shown.get_by_role("link", name="run in MLflow").click(modifiers=["ControlOrMeta"])
    expect(back.value.get_by_text(f"delay_model@{FEBRUARY}").first).to_be_visible()
    shown.get_by_role("searchbox").fill(f"flights@{JANUARY}")
    shown.keyboard.press("Enter")
    expect(heading).to_have_text(re.compile(rf"^flights@{JANUARY}#\d+$"))
    shown.get_by_role("link", name="trace from here").click()
    expect(shown).to_have_title(re.compile(f"Lineage of flights@{JANUARY}"))
    expect(shown.locator("#summary")).to_contain_text("· 1 upstream ·")
    shown.get_by_role("searchbox").fill("nothing of the kind")
    shown.get_by_role("button", name="Trace", exact=True).click()
    expect(shown.get_by_role("status")).to_contain_text("no recorded artifact matches 'nothing of the kind'")
    shown.get_by_role("searchbox").fill("models:/flight-delay/1")
    shown.keyboard.press("Enter")
    expect(heading).to_have_text(re.compile(rf"^delay_model@{JANUARY}#\d+$"))


def test_run_and_registered_model_in_mlflow_link_back(page: Page, deployment: Deployment) -> None:
    run = deployment.record("delay_model", FEBRUARY).mlflow
    assert run
    assert run.url
    for shown in (run.url, f"{deployment.mlflow}/#/models/flight-delay/versions/{run.model_version}"):
        page.goto(shown)
        for address in (
            f"{deployment.dagster}/assets/delay_model?view=partitions&partition={FEBRUARY}",
            f"{deployment.dagster}/runs/{deployment.record('delay_model', FEBRUARY).dagster_run}",
            f"{deployment.lineage}/trace?ref={run.run_id}",
        ):
            expect(page.locator(f'a[href="{address}"]')).to_be_visible()


def test_model_links_to_its_authors_function(page: Page, deployment: Deployment) -> None:
    page.goto(f"{deployment.dagster}/assets/delay_model")
    expect(page.get_by_text("Source code", exact=True)).to_be_visible()
    file = Path(assets.__file__).relative_to(PROJECT)
    address = page.locator(f'a[href*="{file.as_posix()}"]').get_attribute("href") or ""
    found = re.search(r"(?:#L|:)(\d+)$", address)
    assert found
    declaration = "\n".join((PROJECT / file).read_text().splitlines()[int(found[1]) - 1 :])
    assert re.match(r"@ml\.model\((.|\n)*?\)\ndef delay_model\(", declaration)


def test_image_links_to_its_dockerfile(page: Page, deployment: Deployment) -> None:
    page.goto(f"{deployment.dagster}/assets/images/train")
    expect(page.get_by_text("Source code", exact=True)).to_be_visible()
    expect(page.locator('a[href*="/Dockerfile.train"]')).to_be_visible()


def test_checks_of_a_model_are_shown_with_their_result(page: Page, deployment: Deployment) -> None:
    page.goto(f"{deployment.dagster}/assets/delay_model?view=checks&checkDetail=model_quality")
    expect(page.get_by_text("The model is better than the baseline")).to_be_visible()
    expect(page.get_by_text("Passed").first).to_be_visible()
    expect(page.get_by_text(re.compile(r"mean error .* minutes .* below the baseline's")).first).to_be_visible()


def test_lineage_shows_images_and_kinds(page: Page, deployment: Deployment) -> None:
    page.goto(f"{deployment.dagster}/assets/delay_model?view=lineage&lineageScope=upstream&lineageDepth=5")
    graph = page.locator("svg foreignObject")
    for asset, kind in {
        "flights": "dataset",
        "departures": "feature_set",
        "delay_model": "model",
        "train": "image",
    }.items():
        node = graph.filter(has=page.get_by_text(asset, exact=True))
        expect(node.get_by_text(re.compile(rf"^{kind}$", re.IGNORECASE)).first).to_be_visible()


def test_run_page_shows_its_steps_and_their_logs(page: Page, deployment: Deployment) -> None:
    record = deployment.record("departures", FEBRUARY)
    page.goto(f"{deployment.dagster}/runs/{record.dagster_run}?logs=step%3Adepartures")
    expect(page.get_by_text("Success", exact=True).first).to_be_visible()
    expect(page.get_by_text("Materialized value departures.").first).to_be_visible()
    expect(page.get_by_text('Finished execution of step "departures"').first).to_be_visible()


def test_schedule_and_sensors_are_listed(page: Page, deployment: Deployment) -> None:
    page.goto(f"{deployment.dagster}/automation")
    for name in (SCHEDULE, *(sensor.name for sensor in defs().sensors or ())):
        expect(page.get_by_text(name, exact=True)).to_be_visible()
    page.goto(f"{deployment.dagster}/locations/ml_assets/schedules/{SCHEDULE}")
    expect(page.get_by_text("America/New_York")).to_be_visible()
    expect(page.get_by_text(JOB_NAME, exact=True)).to_be_visible()


def test_a_month_is_materialized_from_the_launchpad(page: Page, deployment: Deployment) -> None:
    page.goto(f"{deployment.dagster}/locations/ml_assets/jobs/{JOB_NAME}/playground")
    editor = page.locator(".CodeMirror-code")
    for name, value in TrainConfig().model_dump(mode="json").items():
        expect(editor).to_contain_text(re.compile(rf"{name}: '?{re.escape(str(value))}"))
    page.get_by_placeholder("Partition").fill(MARCH)
    page.get_by_placeholder("Partition").press("Enter")
    expect(page.get_by_text(f"partition: {MARCH}")).to_be_visible()
    page.get_by_role("button", name="Launch Run").click()
    expect(page.get_by_text("RUN_SUCCESS")).to_be_visible(timeout=RUN_MILLISECONDS)

    record = deployment.record("delay_model", MARCH)
    assert record.launch.kind is LaunchKind.USER
    assert page.url.endswith(f"/runs/{record.dagster_run}")
    open_partition(page, deployment, "delay_model", MARCH)
    expect(row(page, "data version")).to_contain_text(record.data_version)
    expect(page.get_by_text("Materialized (3)")).to_be_visible()


PAGES = [("dagster", "/server_info"), ("mlflow", "/health"), ("lineage", "/")]
in_front_of_each_page = pytest.mark.parametrize(("site", "path"), PAGES)


@in_front_of_each_page
def test_login_shows_pages_only_to_users_of_the_password_file(sites: Sites, site: str, path: str) -> None:
    refused = sites.ask(site, path, password=None)
    assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, 'Basic realm="ml-assets"')
    assert sites.ask(site, path, password="wrong").status_code == 401
    assert sites.ask(site, path).status_code == 200


@in_front_of_each_page
def test_login_refuses_requests_that_another_site_made_a_browser_send(sites: Sites, site: str, path: str) -> None:
    own = sites.addresses[site]
    for foreign in ("https://evil.example", "null", f"{own}.evil.example", own.replace("https", "http")):
        assert sites.ask(site, path, headers={"Origin": foreign}).status_code == 403, foreign
    assert sites.ask(site, path, headers={"Origin": own}).status_code == 200


def test_login_lets_own_pages_change_something(sites: Sites) -> None:
    own = {name: {"method": "POST", "headers": {"Origin": address}} for name, address in sites.addresses.items()}
    made = sites.ask("mlflow", "/api/2.0/mlflow/experiments/create", json={"name": "behind a login"}, **own["mlflow"])
    assert made.status_code == 200, made.text
    found = sites.ask("dagster", "/graphql", json={"query": "{ version }"}, **own["dagster"])
    assert found.json()["data"]["version"]


def test_login_passes_the_subscriptions_of_the_ui(sites: Sites) -> None:
    assert sites.subscribe(password=PASSWORD).startswith(b"HTTP/1.1 101 ")
    assert sites.subscribe(password=None).startswith(b"HTTP/1.1 401 ")


def test_browser_shows_the_assets_after_the_login(sites: Sites, browser: Browser) -> None:
    login: HttpCredentials = {"username": USER, "password": PASSWORD}
    context = browser.new_context(ignore_https_errors=True, http_credentials=login)
    page = context.new_page()
    page.goto(f"{sites.addresses['dagster']}/assets")
    expect(page.get_by_text("delay_model").first).to_be_visible()
    context.close()
