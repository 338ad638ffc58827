"""A trace page in a real browser, opened from a file without a server."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from ml_assets.addresses import Addresses
from ml_assets.lineage.graph import LineageGraph, Trace
from ml_assets.lineage.html_page import render_page
from ml_assets.resources.provenance import ArtifactKind
from tests.ml_assets.artifacts.test_metadata import record
from tests.ml_assets.lineage.graphs import made, pipeline, tangle, trace_of

Shown = Callable[[Trace], None]
MODEL = "delay_model@2000-03#12"


@pytest.fixture
def complaints(page: Page) -> list[str]:
    """Addresses that the page requested, and its errors, including those of its security policy."""
    heard: list[str] = []
    page.on("request", lambda request: heard.append(request.url))
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    return heard


@pytest.fixture
def shown(page: Page, complaints: list[str], tmp_path: Path) -> Shown:
    """A function that opens the page of a trace from a file."""

    def show(trace: Trace) -> None:
        records = {trace.starts[0]: record(parameters={"depth": 6})}
        file = tmp_path / "trace.html"
        file.write_text(render_page(trace, records, Addresses("https://dagster.example")), encoding="utf-8")
        page.set_viewport_size({"width": 1440, "height": 900})
        page.goto(file.as_uri())
        expect(page.locator("canvas#graph[data-view]")).to_be_visible()
        assert complaints == [file.as_uri()]

    return show


def data(page: Page) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(page.locator("script#data").inner_text())
    return found


def view(page: Page) -> dict[str, float]:
    found: dict[str, float] = json.loads(page.locator("canvas#graph").get_attribute("data-view") or "")
    return found


def middle_of(page: Page, node_id: str) -> tuple[float, float]:
    """Return the position of a node's center on the screen."""
    (node,) = (each for each in data(page)["nodes"] if each["id"] == node_id)
    (width, height), seen = data(page)["size"], view(page)
    box = page.locator("canvas#graph").bounding_box()
    assert box
    return (
        box["x"] + seen["x"] + (node["x"] + width / 2) * seen["scale"],
        box["y"] + seen["y"] + (node["y"] + height / 2) * seen["scale"],
    )


def heading(page: Page) -> Locator:
    """Return the element with the id of the node whose record is shown."""
    return page.locator("#record h2")


def test_the_start_is_shown_with_its_record(page: Page, shown: Shown) -> None:
    shown(trace_of(pipeline(3), MODEL))
    expect(heading(page)).to_have_text(MODEL)
    fields = page.locator("#record > dl")
    expect(fields).to_contain_text("models:/flight-delay/3")
    expect(page.locator("#record details")).to_contain_text("depth")
    expect(page.get_by_role("link", name="asset in Dagster")).to_have_attribute(
        "href", "https://dagster.example/assets/delay_model?view=partitions&partition=2000-03"
    )


def test_a_click_on_a_node_shows_its_record(page: Page, shown: Shown) -> None:
    shown(trace_of(pipeline(3), MODEL))
    page.mouse.click(*middle_of(page, "flights@2000-02#6"))
    expect(heading(page)).to_have_text("flights@2000-02#6")
    page.get_by_role("button", name="departures@2000-02#7").click()
    expect(heading(page)).to_have_text("departures@2000-02#7")


def test_any_identifier_is_found(page: Page, shown: Shown) -> None:
    shown(trace_of(pipeline(3), MODEL))
    wanted = next(node for node in data(page)["nodes"] if node["id"] == "departures@2000-02#7")
    named = [wanted["fields"][name] for name in ("data version", "commit", "Dagster run")]
    for identifier in [*named, named[0].removeprefix("md5:")[:10].upper(), "departures@2000-02"]:
        page.keyboard.press("/")
        page.get_by_role("searchbox").fill(identifier)
        expect(page.locator("#hits")).to_contain_text("1 found")
        page.keyboard.press("Enter")
        expect(heading(page)).to_have_text("departures@2000-02#7")
        page.keyboard.press("Escape")
        expect(heading(page)).to_have_count(0)


def test_keys_lead_along_the_edges(page: Page, shown: Shown) -> None:
    shown(trace_of(pipeline(3), MODEL))
    page.locator("canvas#graph").focus()
    page.keyboard.press("ArrowRight")
    expect(heading(page)).to_have_text("predictions@2000-03#13")
    page.keyboard.press("ArrowLeft")
    expect(heading(page)).to_have_text(MODEL)
    expect(page.get_by_role("status").filter(has_text=MODEL)).to_contain_text("used by: 1")


def test_it_moves_and_zooms_and_comes_back(page: Page, shown: Shown) -> None:
    shown(trace_of(pipeline(3), MODEL))
    whole = view(page)
    x, y = middle_of(page, MODEL)
    page.mouse.move(x, y)
    page.mouse.wheel(0, -300)
    page.wait_for_function("before => JSON.parse(graph.dataset.view).scale > before", arg=whole["scale"])
    assert middle_of(page, MODEL) == pytest.approx((x, y), abs=1)
    near = view(page)
    page.mouse.down()
    page.mouse.move(x + 90, y + 40)
    page.mouse.up()
    page.wait_for_function("before => JSON.parse(graph.dataset.view).x !== before", arg=near["x"])
    assert middle_of(page, MODEL) == pytest.approx((x + 90, y + 40), abs=4)
    expect(heading(page)).to_have_text(MODEL)
    page.get_by_role("button", name="Fit").click()
    page.wait_for_function("before => JSON.parse(graph.dataset.view).scale === before", arg=whole["scale"])
    assert view(page) == whole


def test_kinds_can_be_left_out(page: Page, shown: Shown) -> None:
    shown(trace_of(pipeline(3), MODEL))
    box = page.get_by_role("checkbox", name="image (1)")
    box.uncheck()
    page.get_by_role("searchbox").fill("images/train#1")
    expect(page.locator("#hits")).to_contain_text("0 found")
    box.check()
    expect(page.locator("#hits")).to_contain_text("1 found")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_follows_the_light_and_changes_it(page: Page, shown: Shown, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    shown(trace_of(pipeline(3), MODEL))
    root, other = page.locator("html"), {"light": "dark", "dark": "light"}[scheme]
    expect(root).to_have_attribute("data-theme", scheme)
    page.keyboard.press("t")
    expect(root).to_have_attribute("data-theme", other)


@pytest.mark.parametrize("name", ["</script><script>document.title = 'broken'</script>", '"><img src=x>', "$title"])
def test_no_name_breaks_it(page: Page, shown: Shown, complaints: list[str], name: str) -> None:
    node = made(1, "flights", ArtifactKind.DATASET, name)
    shown(Trace(node.id, (node.id,), LineageGraph([node], []), frozenset([node.id]), None))
    expect(heading(page)).to_have_text(node.id)
    expect(page).to_have_title(f"Lineage of {node.id}")
    assert page.locator("img").count() == 0
    assert len(complaints) == 1


@pytest.mark.parametrize(
    "trace",
    [trace_of(pipeline(500), "images/train#1"), trace_of(tangle(2000), "project/asset_00@050#1000")],
    ids=["wide", "deep"],
)
def test_two_thousand_nodes_are_drawn_and_found(page: Page, shown: Shown, trace: Trace) -> None:
    assert len(trace.graph.nodes) > 1_900
    shown(trace)
    expect(heading(page)).to_have_text(trace.starts[0])
    last = list(trace.graph.nodes)[-1]
    page.get_by_role("searchbox").fill(last)
    page.keyboard.press("Enter")
    expect(heading(page)).to_have_text(last)
    page.wait_for_function("JSON.parse(graph.dataset.view).scale >= 0.8")
    x, y = middle_of(page, last)
    assert 0 < x < 1440
    assert 0 < y < 900
    page.keyboard.press("Escape")
    page.mouse.click(x, y)
    expect(heading(page)).to_have_text(last)
