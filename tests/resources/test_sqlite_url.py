from pathlib import Path

import pytest
import sqlalchemy as sql

from ml_assets.resources.sqlite_url import sqlite_file, sqlite_url


@pytest.mark.parametrize("name", ["plain", "with space", "a#1", "b?1", "c%20d", "e?uri=true", "ü&x=1"])
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


def test_options_are_kept() -> None:
    assert sqlite_url(Path("/a.db"), "timeout=5") == "sqlite:////a.db?timeout=5"
    assert sqlite_file("sqlite:////a.db?timeout=5") == Path("/a.db")
    assert sqlite_url(Path("/a?b.db"), "timeout=5") == "sqlite:///file:/a%3Fb.db?timeout=5&uri=true"


@pytest.mark.parametrize("url", ["postgresql://host/x", "https://mlflow.example", "/var/mlflow.db"])
def test_other_addresses_name_no_file(url: str) -> None:
    assert sqlite_file(url) is None
