"""References find exactly what they name, in the index as in the reference."""

import pytest

from ml_assets.resources.errors import AmbiguousReference, UnknownReference
from tests.ml_assets.lineage.index.indexed import found, index_of
from tests.ml_assets.lineage.index.made_up import md5, node, read
from tests.ml_assets.lineage.index.reference import Event


def test_identical_materializations_stay_apart_and_one_version_starts_from_both() -> None:
    first, second = node(1, "flights", md5("a")), node(2, "flights", md5("a"))
    graph = index_of([Event(first), Event(second), Event(node(3, "model"), (read(second),))])
    assert found(graph, md5("a")) == ["flights#1", "flights#2"]
    assert graph.parents("model#3") == (second,)


def test_an_asset_stands_for_the_latest_of_each_partition() -> None:
    made = [node(n, "flights", md5(str(n)), partition=p) for n, p in [(1, "01"), (2, "02"), (3, "01")]]
    graph = index_of(map(Event, made))
    assert found(graph, "flights") == ["flights@01#3", "flights@02#2"]
    assert found(graph, "flights@01") == ["flights@01#3"]
    assert found(graph, "flights@01#1") == ["flights@01#1"]


def test_an_asset_stands_for_a_missing_event_only_if_nothing_else_is_left() -> None:
    gone = node(7, "flights", md5("a"))
    kept = Event(node(3, "flights", md5("b")))
    reader = Event(node(9, "model"), (read(gone),))
    assert found(index_of([kept, reader]), "flights") == ["flights#3"]
    assert found(index_of([reader]), "flights") == ["flights#7"]


IMAGE = f"registry.example/train@sha256:{'7' * 64}"


IDENTIFIED = {
    "image": (IMAGE, [IMAGE, f"sha256:{'7' * 64}", "sha256:777777", "777777"]),
    "index_digest": (f"sha256:{'6' * 64}", [f"sha256:{'6' * 64}", "666666"]),
    "environment": (f"sha256:{'5' * 64}", [f"sha256:{'5' * 64}", "555555"]),
    "content_version": (md5("4444444", directory=True), [md5("4444444", directory=True), md5("4444444"), "444444"]),
    "mlflow_run": ("3" * 32, ["3" * 32, "33333333"]),
    "model_version": ("models:/delay/2", ["models:/delay/2"]),
    "dagster_run": ("22222222-aaaa-4bbb-8ccc-000000000000", ["22222222-aaaa-4bbb-8ccc-000000000000", "22222222"]),
    "commit": ("1" * 40, ["1" * 40, "1111111", "1111111+dirty"]),
}


@pytest.mark.parametrize(
    ("attribute", "value", "text"),
    [(attribute, value, text) for attribute, (value, texts) in IDENTIFIED.items() for text in texts],
)
def test_every_identifier_finds_what_carries_it(attribute: str, value: str, text: str) -> None:
    carrier = node(1, "model", md5("a"), **{attribute: value})
    graph = index_of([Event(carrier), Event(node(2, "other", md5("b")))])
    assert found(graph, text) == [carrier.id]


def test_a_shortened_digest_that_fits_two_is_refused_with_both() -> None:
    graph = index_of([Event(node(1, "flights", md5("aaaaaa1"))), Event(node(2, "weather", md5("aaaaaa2")))])
    with pytest.raises(AmbiguousReference) as refused:
        graph.trace("aaaaaa")
    assert "flights#1" in str(refused.value)
    assert "weather#2" in str(refused.value)
    assert found(graph, "aaaaaa1") == ["flights#1"]


def test_digits_that_fit_a_commit_and_a_version_are_refused() -> None:
    both = [Event(node(1, "flights", md5("abcdef0"))), Event(node(2, "weather", md5("1"), commit="abcdef0" + "0" * 33))]
    with pytest.raises(AmbiguousReference, match="commit abcdef0"):
        index_of(both).trace("abcdef0")


def test_a_whole_name_goes_before_the_start_of_another() -> None:
    events = [Event(node(1, "abcdef01", md5("1"))), Event(node(2, "weather", md5("abcdef01")))]
    assert found(index_of(events), "abcdef01") == ["abcdef01#1"]
    file, directory = node(1, "flights", md5("a")), node(2, "flights", md5("a", directory=True))
    assert found(index_of([Event(file), Event(directory)]), md5("a")) == ["flights#1"]


@pytest.mark.parametrize("text", ["flight", "flights@2013-02", "md5:bbbbbb", "models:/delay/9", "flights#2"])
def test_an_unknown_reference_is_refused(text: str) -> None:
    graph = index_of([Event(node(1, "flights", md5("a"), partition="2013-01"))])
    with pytest.raises(UnknownReference, match=text):
        graph.trace(text)
