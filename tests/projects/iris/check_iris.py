"""The project's own tests, which pytest runs by name."""

import dagster as dg
import iris

import ml_assets as ml


def test_functions_are_called_directly() -> None:
    assert "petal_area" in iris.petals(iris.flowers())


def test_everything_is_selected() -> None:
    job = iris.defs().resolve_job_def("everything")
    assert job.asset_layer.selected_asset_keys == {dg.AssetKey(name) for name in EXPECTED} | {image}


def test_dataset_that_dvc_tracks_is_defined() -> None:
    tracked = ml.tracked_dataset("raw", repository="/nowhere", dvc_file="raw.dvc")
    assert tracked.key == dg.AssetKey("raw")


EXPECTED = ("flowers", "petals", "species", "guesses")
image = dg.AssetKey(["images", "train"])
