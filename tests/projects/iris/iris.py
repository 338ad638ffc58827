"""A project of one file: a dataset, a feature set, a model, its predictions, an image and a job."""

import dagster as dg
import pandas as pd

import ml_assets as ml

everything = dg.define_asset_job("everything", selection="*")
image = ml.container_image("train", dockerfile="Dockerfile", sources=["iris.py"])


@ml.dataset(image=image)
def flowers() -> pd.DataFrame:
    """Measured iris flowers and their species."""
    from sklearn.datasets import load_iris

    data = load_iris(as_frame=True)
    return data.frame.rename(columns=lambda name: name.removesuffix(" (cm)").replace(" ", "_"))


@ml.feature_set(image=image)
def petals(flowers: pd.DataFrame) -> pd.DataFrame:
    """The size of each petal."""
    return flowers.assign(petal_area=flowers["petal_length"] * flowers["petal_width"])


@ml.model(image=image, registered_name="iris")
def species(petals: pd.DataFrame) -> ml.TrainedModel:
    """The species of a flower, by its petals."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features = petals[["petal_length", "petal_width", "petal_area"]]
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(features, petals["target"])
    return ml.TrainedModel(model, metrics={"accuracy": model.score(features, petals["target"])}, input_example=features)


@ml.dataset(image=image)
def guesses(species: ml.TrainedModel, petals: pd.DataFrame) -> pd.DataFrame:
    """The species that the model names for each flower."""
    return pd.DataFrame({"species": species.predict(petals[["petal_length", "petal_width", "petal_area"]])})


@dg.definitions
def defs() -> dg.Definitions:
    """Return the project's assets and job on the target that the environment names."""
    return ml.on_target(dg.Definitions(assets=[image, flowers, petals, species, guesses], jobs=[everything]))
