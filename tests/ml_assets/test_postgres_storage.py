"""An instance whose database password is in a file and changes while the instance is open."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psycopg2
import pytest

from ml_assets.lineage.index.index import open_index
from ml_assets.lineage.questions import Question
from ml_assets.postgres_storage import PasswordFile
from ml_assets.resources.errors import SettingsError
from tests.postgres import Postgres, postgres


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


def change_password(server: Postgres, password: str, new: str) -> None:
    connection = psycopg2.connect(server.url.replace(":tests@", f":{password}@"))
    connection.autocommit = True
    connection.cursor().execute("ALTER ROLE ml_assets PASSWORD %s", (new,))
    connection.close()


def test_open_instance_uses_a_new_password_at_once(server: Postgres, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("tests\n")
    url = server.url.replace(":tests@", "@")
    (tmp_path / "dagster.yaml").write_text(
        "telemetry: {enabled: false}\n"
        "storage: {custom: {module: ml_assets.postgres_storage, class: PostgresStorage, "
        f"config: {{postgres_url: '{url}', password_file: '{file}'}}}}}}\n"
    )
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization("flights", tags={"dagster/data_version": "a"}))
        change_password(server, "tests", "it's new")
        file.write_text("it's new")
        assert instance.get_latest_materialization_event(dg.AssetKey("flights"))
        assert instance.get_runs() == []
        with open_index(instance, print) as index:
            assert index.trace(Question("flights")).graph.nodes
        with dg.DagsterInstance.from_ref(instance.get_ref()) as again:
            assert again.get_latest_materialization_event(dg.AssetKey("flights"))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "cannot be read: .*No such file.*Next: mount the Secret at "),
        ("\n", "is empty. Next: write the password"),
    ],
)
def test_missing_password_is_an_error_that_names_the_file(tmp_path: Path, content: str | None, expected: str) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingsError, match=expected):
        PasswordFile(str(file)).get_token()
