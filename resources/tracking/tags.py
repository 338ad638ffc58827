"""Names of the tags on MLflow runs, models and model versions, for modules that cannot import the whole record."""

__all__ = ["RunTags"]


class RunTags:
    """Tags that link an MLflow run to its materialization."""

    ASSET = "ml_assets.asset"
    PARTITION = "ml_assets.partition"
    ATTEMPT = "ml_assets.attempt"
    REPEATS = "ml_assets.repeats"
    DATA_VERSION = "ml_assets.data_version"
    CODE_VERSION = "ml_assets.code_version"
    COMMIT = "ml_assets.commit"
    DIRTY = "ml_assets.dirty"
    IMAGE = "ml_assets.image"
    ENVIRONMENT = "ml_assets.environment"
    DAGSTER_RUN = "ml_assets.dagster_run"
    DAGSTER_PARENT_RUN = "ml_assets.dagster_parent_run"
    DAGSTER_STEP = "ml_assets.dagster_step"
    DAGSTER_URL = "ml_assets.dagster_url"
    LAUNCHED_BY = "ml_assets.launched_by"
    PROCESS = "ml_assets.process"
    ONNX_DIFFERENCE = "ml_assets.onnx_difference"
    REPRODUCTION = "ml_assets.reproduction"
    REPRODUCTION_DIFFERENCE = "ml_assets.reproduction_difference"
    REPRODUCTION_TIME = "ml_assets.reproduction_time"
    REPRODUCTION_RUN = "ml_assets.reproduction_run"
