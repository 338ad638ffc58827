import pytest

from ml_assets.resources.errors import SettingsError
from ml_assets.serving.settings import load_serve_settings


def test_model_alone_is_enough() -> None:
    settings = load_serve_settings({"ML_ASSETS_SERVE_MODEL": "models:/delay/3", "HOME": "/root"})
    assert settings.model == "models:/delay/3"
    assert settings.workers >= 1
    assert settings.image_digest is None


def test_variables_that_mlflow_and_opentelemetry_read_serve_where_ours_are_not_set() -> None:
    environ = {
        "ML_ASSETS_SERVE_MODEL": "models:/delay/3",
        "MLFLOW_TRACKING_URI": "http://a",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://o",
    }
    assert load_serve_settings(environ).tracking_uri == "http://a"
    assert load_serve_settings(environ).traces_endpoint == "http://o"
    assert load_serve_settings(environ | {"ML_ASSETS_SERVE_TRACKING_URI": "http://b"}).tracking_uri == "http://b"


@pytest.mark.parametrize("name", ["registry:5000/serve@", ""])
def test_image_is_a_reference_by_digest_or_the_digest_alone(name: str) -> None:
    environ = {"ML_ASSETS_SERVE_MODEL": "file:/m", "ML_ASSETS_SERVE_IMAGE": name + "sha256:" + "0" * 64}
    assert load_serve_settings(environ).image_digest == "sha256:" + "0" * 64


@pytest.mark.parametrize(
    "image", ["registry/serve:latest", "registry:5000/serve", "serve", "registry/serve@sha256:0", "md5:" + "0" * 32]
)
def test_image_that_is_not_named_by_its_digest_is_refused(image: str) -> None:
    environ = {"ML_ASSETS_SERVE_MODEL": "file:/m", "ML_ASSETS_SERVE_IMAGE": image}
    with pytest.raises(
        SettingsError, match=r"ML_ASSETS_SERVE_IMAGE.*Next: set it to registry/repository@sha256"
    ) as found:
        load_serve_settings(environ)
    assert image in str(found.value)


def test_request_may_take_as_long_as_a_process_may_take_to_end() -> None:
    environ = {"ML_ASSETS_SERVE_MODEL": "file:/m"}
    assert load_serve_settings(environ).timeout_seconds < load_serve_settings(environ).drain_seconds
    longer = environ | {"ML_ASSETS_SERVE_TIMEOUT_SECONDS": "60"}
    with pytest.raises(
        SettingsError, match=r"ML_ASSETS_SERVE_TIMEOUT_SECONDS \(60\) must be less than ML_ASSETS_SERVE_DRAIN_SECONDS"
    ):
        load_serve_settings(longer)
    assert load_serve_settings(longer | {"ML_ASSETS_SERVE_DRAIN_SECONDS": "61"}).timeout_seconds == 60


def test_secrets_are_not_shown() -> None:
    environ = {"ML_ASSETS_SERVE_MODEL": "file:/m", "MLFLOW_TRACKING_PASSWORD": "hush", "MLFLOW_TRACKING_TOKEN": "hush"}
    assert "hush" not in repr(load_serve_settings(environ))


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "ML_ASSETS_SERVE_MODEL is not set"),
        ({"ML_ASSETS_SERVE_PROT": "1"}, "ML_ASSETS_SERVE_PROT is not a setting"),
        ({"ML_ASSETS_SERVE_PORT": "http"}, "ML_ASSETS_SERVE_PORT must be a whole number, got 'http'"),
        ({"ML_ASSETS_SERVE_PORT": "70000"}, "must be at most 65535"),
        ({"ML_ASSETS_SERVE_NAME": "a/b"}, "ML_ASSETS_SERVE_NAME must not contain /"),
        ({"ML_ASSETS_SERVE_WORKERS": "0"}, "ML_ASSETS_SERVE_WORKERS must be at least 1, got 0"),
        ({"ML_ASSETS_SERVE_TIMEOUT_SECONDS": "nan"}, "ML_ASSETS_SERVE_TIMEOUT_SECONDS must be at least"),
        ({"ML_ASSETS_SERVE_LOG_REQUESTS": "some"}, "must be all or errors"),
        ({"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}, "must begin with http:// or https://"),
    ],
)
def test_wrong_variable_is_named_with_what_it_takes(environ: dict[str, str], said: str) -> None:
    model = {} if not environ else {"ML_ASSETS_SERVE_MODEL": "models:/delay/3"}
    with pytest.raises(SettingsError, match=said):
        load_serve_settings(model | environ)
