from pathlib import Path

import pytest
import sqlalchemy as sql

from ml_assets.resources.errors import SettingsError
from ml_assets.resources.sqlite_url import sqlite_file, sqlite_url


@pytest.mark.parametrize("name", ["plain", "with space", "a#1", "c%20d", "ü&x=1"])
def test_sqlalchemy_opens_the_file_that_a_url_is_made_of(name: str, tmp_path: Path) -> None:
    file = tmp_path / name / "the.db"
    file.parent.mkdir()
    url = sqlite_url(file)
    assert sqlite_file(url) == file
    engine = sql.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sql.text("CREATE TABLE t (x int)"))
    engine.dispose()
    assert list(tmp_path.rglob("*.db")) == [file]


def test_file_that_no_url_can_name_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"cannot be /a\?b/the.db.*Next: set mlflow.tracking_uri"):
        sqlite_url(Path("/a?b/the.db"))


def test_options_are_kept() -> None:
    assert sqlite_url(Path("/a.db"), "timeout=5") == "sqlite:////a.db?timeout=5"
    assert sqlite_file("sqlite:////a.db?timeout=5") == Path("/a.db")


@pytest.mark.parametrize("url", ["postgresql://host/x", "https://mlflow.example", "/var/mlflow.db"])
def test_other_addresses_name_no_file(url: str) -> None:
    assert sqlite_file(url) is None
