import pytest

from ml_assets.resources.errors import SettingsError
from ml_assets.serving.reference import ModelReference

DIGEST = "md5:" + "0" * 32 + ".dir"


@pytest.mark.parametrize(
    "text",
    [
        "models:/flight-delay/12",
        "models:/flight delay@production",
        DIGEST,
        "file:/models/delay",
        f"file:/m#{DIGEST}",
        "file:/x#1/m%20n?p",
        f"file:/x#1/m#2#{DIGEST}",
        "file:m",
    ],
)
def test_reference_is_written_as_it_is_read(text: str) -> None:
    assert str(ModelReference.parse(text)) == text


def test_directory_of_a_file_address_is_absolute() -> None:
    assert ModelReference.parse("file:///models/delay").directory == "/models/delay"


@pytest.mark.parametrize(
    "text",
    [
        "flight-delay",
        "models:/flight-delay",
        "models:/a/b",
        "models:/a@",
        "md5:0.dir",
        "md5:" + "0" * 32,
        "file:",
        "file:/m#sha256:1",
        "",
    ],
)
def test_what_names_no_model_is_refused_with_what_is_accepted(text: str) -> None:
    with pytest.raises(SettingsError, match=r"is not a model reference.*models:/name@alias"):
        ModelReference.parse(text)
