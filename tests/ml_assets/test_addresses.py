"""Addresses that browsers open."""

from ml_assets.addresses import Addresses
from ml_assets.resources.identity import AssetPartition
from ml_assets.resources.settings import load_settings

ADDRESSES = Addresses("https://dagster.example/", "https://mlflow.example", "https://lineage.example/ml")


def test_names_are_quoted() -> None:
    page = ADDRESSES.asset(AssetPartition("tables/dis tances", "a&b|c"))
    assert page == "https://dagster.example/assets/tables/dis%20tances?view=partitions&partition=a%26b%7Cc"
    assert ADDRESSES.trace("a@b#7") == "https://lineage.example/ml/trace?ref=a%40b%237"
    assert (
        ADDRESSES.model_version("models:/flight delay/3") == "https://mlflow.example/#/models/flight%20delay/versions/3"
    )


def test_without_an_address_there_is_no_page() -> None:
    nowhere = Addresses()
    assert nowhere.run("7") is None
    assert nowhere.asset(AssetPartition("flights")) is None
    assert nowhere.trace("flights") is None
    assert nowhere.model_version("models:/m/1") is None


def test_settings_name_them() -> None:
    variables = {"ML_ASSETS__UI_URL": "https://a", "ML_ASSETS__MLFLOW__UI_URL": "https://b"}
    chosen = load_settings(variables | {"ML_ASSETS__LINEAGE__UI_URL": "https://c"})
    assert Addresses.of(chosen) == Addresses("https://a", "https://b", "https://c")
