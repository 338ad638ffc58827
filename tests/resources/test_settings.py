"""Settings from real files and given variables."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ml_assets.resources import settings as module
from ml_assets.resources.errors import DefinitionError, SettingsError
from ml_assets.resources.sections import Section
from ml_assets.resources.settings import Settings, load_settings, operating_system_user
from ml_assets.resources.sqlite_url import sqlite_file

ROOT = Path(__file__).parents[2]
GOOD = """
home = "var/dagster"

[dvc]
remote = "var/remote"
cache = "var/cache"

[mlflow]
tracking_uri = "sqlite:///var/mlflow.db"
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return project(tmp_path, GOOD)


def project(root: Path, text: str, target: str = "local") -> Path:
    file = root / "deployments" / target / "settings.toml"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return root


def test_relative_paths_start_at_the_projects_folder(root: Path) -> None:
    settings = load_settings({}, root)
    assert settings.path(settings.home) == root / "var/dagster"
    assert settings.location(settings.dvc.remote) == str(root / "var/remote")
    assert settings.location(settings.mlflow.tracking_uri) == f"sqlite:///{root}/var/mlflow.db"


@pytest.mark.parametrize("name", ["a b", "x#1", "y%20z"])
def test_databases_stand_in_the_projects_folder_whatever_its_name_is(name: str, tmp_path: Path) -> None:
    root = project(tmp_path / name, GOOD)
    assert sqlite_file(load_settings({}, root).location("sqlite:///var/mlflow.db")) == root / "var/mlflow.db"


def test_database_in_a_folder_with_a_question_mark_is_refused(tmp_path: Path) -> None:
    settings = load_settings({}, project(tmp_path / "x?1", GOOD))
    with pytest.raises(SettingsError, match=r"x\?1/var/mlflow.db, because its URL would end at the question mark"):
        settings.location(settings.mlflow.tracking_uri)
    assert settings.location(settings.dvc.remote) == str(tmp_path / "x?1" / "var" / "remote")


def test_addresses_and_absolute_paths_stay_as_they_are(root: Path) -> None:
    settings = load_settings({}, root)
    for setting in ("s3://bucket/path", "https://mlflow.example", "sqlite:////srv/mlflow.db?timeout=5", "/srv/r"):
        assert settings.location(setting) == setting
    assert settings.path("~/cache") == Path.home().resolve() / "cache"


def test_overrides_may_use_the_registries_of_images_and_those_that_are_named(root: Path) -> None:
    variables = {
        "ML_ASSETS__IMAGES__REGISTRY": "base.example",
        "ML_ASSETS__IMAGES__PUSH_REGISTRY": "own.example:5000",
        "ML_ASSETS__CONTAINERS__OVERRIDE_REGISTRIES": '["past.example"]',
    }
    assert load_settings({}, root).override_registries == frozenset()
    assert load_settings(variables, root).override_registries == {"base.example", "own.example:5000", "past.example"}


class Shop(Section, table="shop"):
    """A section in which one key ends as the names of files do."""

    token: str = ""
    rates_file: str = ""


def test_variable_may_name_a_file_with_the_value(root: Path) -> None:
    (root / "secret").write_text("https://chat.example/hook?key=[1]\n")
    variables = {
        "ML_ASSETS__ALERTS__WEBHOOK_FILE": str(root / "secret"),
        "ML_ASSETS__SHOP__TOKEN_FILE": str(root / "secret"),
        "ML_ASSETS__SHOP__RATES_FILE": "rates.csv",
    }
    settings = load_settings(variables, root, [Shop])
    assert settings.alerts.webhook == settings.section(Shop).token == "https://chat.example/hook?key=[1]"
    assert settings.section(Shop).rates_file == "rates.csv"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (
            {},
            r"the file that ML_ASSETS__ALERTS__WEBHOOK_FILE names cannot be read: .*No such file.*Next: mount the Sec",
        ),
        (
            {"ML_ASSETS__ALERTS__WEBHOOK": "x"},
            r"ML_ASSETS__ALERTS__WEBHOOK and ML_ASSETS__ALERTS__WEBHOOK_FILE are both",
        ),
    ],
)
def test_file_with_a_value_must_exist_and_be_the_only_source(
    root: Path, variables: dict[str, str], expected: str
) -> None:
    with pytest.raises(SettingsError, match=expected):
        load_settings({"ML_ASSETS__ALERTS__WEBHOOK_FILE": str(root / "secret"), **variables}, root)


@pytest.mark.parametrize("target", ["local", "docker", "kubernetes"])
def test_committed_settings_are_complete(target: str) -> None:
    settings = load_settings({"ML_ASSETS_TARGET": target}, ROOT)
    assert settings.target == target
    assert (ROOT / "deployments" / target / "dagster.yaml").exists()


def test_variables_override_keys(root: Path) -> None:
    settings = load_settings(
        {
            "ML_ASSETS__HOME": "/srv/dagster",
            "ML_ASSETS__DVC__REMOTE": "s3://bucket/path",
            "ML_ASSETS__DVC__OPTIONS__ENDPOINTURL": "http://127.0.0.1:9000",
            "ML_ASSETS__MLFLOW__UI_URL": "https://mlflow.example",
            "ML_ASSETS__IMAGES__PLAIN_HTTP": '["one:5000", "two:5000"]',
            "ML_ASSETS__ALERTS__COMMAND": '["notify", "a b"]',
        },
        root,
    )
    assert settings.home == "/srv/dagster"
    assert settings.dvc.remote == "s3://bucket/path"
    assert settings.dvc.options == {"endpointurl": "http://127.0.0.1:9000"}
    assert settings.dvc.cache == "var/cache"
    assert settings.mlflow.ui_url == "https://mlflow.example"
    assert settings.images.plain_http == ("one:5000", "two:5000")
    assert settings.alerts.command == ("notify", "a b")


def test_pools_and_placement_are_tables_by_name(tmp_path: Path) -> None:
    said = """
    [pools.gpu]
    memory = "16Gi"
    tolerations = [{ key = "nvidia.com/gpu" }]

    [placement."reports/delay model"]
    pool = "gpu"
    """
    settings = load_settings({"ML_ASSETS__POOLS__GPU__CPUS": "4"}, project(tmp_path, GOOD + said))
    assert settings.pools["gpu"].cpus == 4
    assert settings.pools["gpu"].tolerations[0].operator == "Exists"
    assert settings.placement["reports/delay model"].pool == "gpu"


def test_variables_that_steps_inherit_are_those_that_are_set_and_never_shown(tmp_path: Path) -> None:
    root = project(tmp_path, f"{GOOD}\n[containers]\npass_variables = ['KEY', 'ABSENT']\n")
    settings = load_settings({"KEY": "s3cret", "OTHER": "x"}, root)
    assert settings.passed_variables == {"KEY": "s3cret"}
    assert "s3cret" not in repr(settings)


def test_fallback_in_a_circle_is_refused(tmp_path: Path) -> None:
    root = project(tmp_path, f"{GOOD}\n[pools.a]\nfallback = 'b'\n[pools.b]\nfallback = 'a'\n")
    text = message(lambda: load_settings({}, root))
    assert "pools.a.fallback: the fallbacks form a cycle: a → b → a" in text
    assert text.endswith("Next: correct settings.toml.")


def test_table_in_a_variable_is_toml(root: Path) -> None:
    settings = load_settings({"ML_ASSETS__DVC__OPTIONS": '{ endpointurl = "http://x", read_timeout = 5 }'}, root)
    assert settings.dvc.options == {"endpointurl": "http://x", "read_timeout": 5}


def test_dagsters_own_variable_chooses_its_home(root: Path) -> None:
    assert load_settings({"DAGSTER_HOME": "/srv/home", "ML_ASSETS__HOME": "/srv/other"}, root).home == "/srv/home"
    assert load_settings({"DAGSTER_HOME": ""}, root).home == "var/dagster"


def test_thread_variables_are_recorded(root: Path) -> None:
    settings = load_settings({"OMP_NUM_THREADS": "2", "OTHER": "1"}, root)
    assert settings.thread_variables == {"OMP_NUM_THREADS": "2"}


def test_settings_cannot_be_changed(root: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings({}, root).dvc.remote = "elsewhere"  # type: ignore[misc]


def message(load: Callable[[], Settings]) -> str:
    with pytest.raises(SettingsError) as caught:
        load()
    return str(caught.value)


def test_unknown_target_names_the_ones_there_are(root: Path) -> None:
    project(root, GOOD, "docker")
    text = message(lambda: load_settings({"ML_ASSETS_TARGET": "moon"}, root))
    assert "ML_ASSETS_TARGET is 'moon'" in text
    assert str(root / "deployments/moon/settings.toml") in text
    assert text.endswith("Next: set ML_ASSETS_TARGET to one of: docker, local.")


def test_target_without_a_settings_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "deployments" / "local").mkdir(parents=True)
    assert "does not exist" in message(lambda: load_settings({}, tmp_path))


@pytest.mark.parametrize("content", [b"home = \n", b"\xff\xfe"])
def test_file_that_is_not_toml_is_named(root: Path, content: bytes) -> None:
    file = root / "deployments/local/settings.toml"
    file.write_bytes(content)
    assert message(lambda: load_settings({}, root)).startswith(f"{file} is not TOML: ")


@pytest.mark.parametrize(
    ("addition", "expected"),
    [
        ("[dvc2]\nx = 1", "dvc2 is unknown; the top level accepts home, ui_url, dvc, mlflow, images"),
        ("[alerts]\nmail = 'x'", "alerts.mail is unknown; [alerts] accepts webhook, command"),
        ("[images]\nbuilder = 'magic'", "images.builder: Input should be 'environment' or 'buildkit', given 'magic'"),
        ("[images]\nregistry = 5", "images.registry: Input should be a valid string, given 5"),
        ("[alerts]\ncommand = [1]", "alerts.command.0: Input should be a valid string, given 1"),
        ("[containers]\nexecuter = 'docker'", "containers.executer is unknown; [containers] accepts executor, image"),
        ("[containers]\nexecutor = 'podman'", "containers.executor: Input should be 'processes', 'docker' or"),
        ("[pools.gpu]\nmemroy = '1Gi'", "pools.gpu.memroy is unknown; [pools.gpu] accepts cpus, cpu_limit, memory"),
        ("[pools]\ngpu = 1", "pools.gpu is a section, which accepts cpus, cpu_limit, memory"),
        ("[pools.gpu]\nmemory = 'a lot'", "pools.gpu.memory: Value error, 'a lot' is not a memory size"),
        ("[pools.gpu]\nmemory = '16'", "pools.gpu.memory: Value error, '16' is less memory than any container needs"),
        (
            "[pools.gpu]\ntolerations = [{ kee = 'x' }]",
            "pools.gpu.tolerations.0.kee is unknown; [pools.gpu.tolerations.0] accepts key, operator",
        ),
        ("[pools.spot]\nfallback = 'gpu'", "pools.spot.fallback: 'gpu' is not a pool; the pools are spot"),
        ("[pools.gpu]\nmemory = '8Gi'\nmemory_cap = '4Gi'", "pools.gpu: Value error, memory_cap 4Gi is below memory"),
        (
            "[placement.'images/train']\nspeed = 1",
            "placement.images/train.speed is unknown; [placement.images/train] accepts",
        ),
        ("[placement.model]\naccelerators = -1", "placement.model.accelerators: Input should be greater than or equal"),
        ("[dvc.options]\nsecret_access_key = ['s3cret']", "dvc.options.secret_access_key: Input should be a valid"),
    ],
)
def test_wrong_key_names_the_file_and_what_is_accepted(tmp_path: Path, addition: str, expected: str) -> None:
    root = project(tmp_path, f"{GOOD}\n{addition}\n")
    text = message(lambda: load_settings({}, root))
    assert f"{root / 'deployments/local/settings.toml'}: {expected}" in text
    assert text.endswith("Next: correct settings.toml.")
    assert "s3cret" not in text


@pytest.mark.parametrize("key", ["target", "root", "thread_variables"])
def test_what_is_computed_is_no_setting(tmp_path: Path, key: str) -> None:
    text = message(lambda: load_settings({}, project(tmp_path, f"{key} = 'x'\n{GOOD}")))
    assert f"{key} is unknown; the top level accepts home," in text


def test_missing_keys_are_named_together(tmp_path: Path) -> None:
    root = project(tmp_path, "[dvc]\nremote = 'x'\n")
    text = message(lambda: load_settings({}, root))
    for key in ("home", "dvc.cache", "mlflow"):
        assert f"{key} is missing" in text


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("ML_ASSETS__NONE__KEY", "x", "none is unknown; the top level accepts home,"),
        ("ML_ASSETS__DVC__REMOTEE", "x", "dvc.remotee is unknown; [dvc] accepts remote, options, cache"),
        ("ML_ASSETS__TARGET", "docker", "target is unknown; the top level accepts home,"),
        ("ML_ASSETS__DVC", "x", "dvc is a section, which accepts remote, options, cache"),
        ("ML_ASSETS__HOME__X", "x", "home is not a section"),
        (
            "ML_ASSETS__IMAGES__BUILDER",
            "magic",
            "images.builder: Input should be 'environment' or 'buildkit', given 'magic'",
        ),
        ("ML_ASSETS__IMAGES__PLAIN_HTTP", "one", "images.plain_http: Input should be a valid tuple, given 'one'"),
        ("ML_ASSETS__IMAGES__PLAIN_HTTP", "[one", "begins like a TOML array or table, but is not valid TOML"),
        ("ML_ASSETS__DVC__REMOTE", '["x"]', "dvc.remote: Input should be a valid string, given ['x']"),
    ],
)
def test_wrong_variable_is_named_with_what_is_accepted(root: Path, variable: str, value: str, expected: str) -> None:
    text = message(lambda: load_settings({variable: value}, root))
    assert text.startswith(variable)
    assert expected in text
    assert " Next: " in text


class SalesSettings(Section, table="sales"):
    landing: str
    days: int = 7


def test_a_project_has_sections_of_its_own(tmp_path: Path) -> None:
    root = project(tmp_path, f"{GOOD}\n[sales]\nlanding = 'arrivals'\n")
    found = load_settings({"ML_ASSETS__SALES__DAYS": "30"}, root, [SalesSettings]).section(SalesSettings)
    assert found == SalesSettings(landing="arrivals", days=30)
    with pytest.raises(ValueError, match="frozen"):
        found.days = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("addition", "variables", "expected"),
    [
        ("[sales]\nlandin = 'x'\nlanding = 'y'", {}, "{file}: sales.landin is unknown; [sales] accepts landing, days"),
        ("[sales]\nlanding = 'x'\ndays = 'many'", {}, "{file}: sales.days: Input should be a valid integer"),
        ("", {}, "{file}: sales.landing is missing"),
        ("sales = 1", {}, "{file}: sales is a section, which accepts landing, days"),
        ("", {"ML_ASSETS__SALES__MONTHS": "1"}, "ML_ASSETS__SALES__MONTHS: sales.months is unknown; [sales] accepts"),
        ("[sals]\nlanding = 'x'", {}, "sals is unknown; the top level accepts home, ui_url, dvc, mlflow, images"),
    ],
)
def test_a_wrong_key_of_such_a_section_is_told_as_any_other(
    tmp_path: Path, addition: str, variables: dict[str, str], expected: str
) -> None:
    # A key without a section must precede the first section.
    text = f"{addition}\n{GOOD}" if addition.startswith("sales =") else f"{GOOD}\n{addition}\n"
    root = project(tmp_path, text)
    told = message(lambda: load_settings(variables, root, [SalesSettings]))
    assert expected.format(file=root / "deployments/local/settings.toml") in told
    if "the top level" in told:
        assert "backup, sales" in told


def test_a_section_that_was_not_loaded_is_told(root: Path) -> None:
    settings = load_settings({}, root)
    told = message(lambda: settings.section(SalesSettings))
    assert told.startswith("the settings were loaded without the section 'sales'")
    assert told.endswith("Next: load them with it: Target.from_environment(SalesSettings).")


def test_sections_of_a_project_are_left_unread_where_they_are_not_known(tmp_path: Path) -> None:
    root = project(tmp_path, f"{GOOD}\n[sales]\nlanding = 5\n[sales.deep]\nx = 1\n")
    assert load_settings({"ML_ASSETS__SALES__DAYS": "x"}, root, None).sections == {}
    assert "sales is unknown" in message(lambda: load_settings({}, root))


@pytest.mark.parametrize(
    ("name", "meant"), [("dcv", "dvc"), ("alrets", "alerts"), ("pool", "pools"), ("image", "images")]
)
def test_a_misspelt_section_is_refused_even_there(tmp_path: Path, name: str, meant: str) -> None:
    root = project(tmp_path, f"{GOOD}\n[{name}]\nx = 1\n")
    told = message(lambda: load_settings({}, root, None))
    assert f"{name} is unknown; the top level accepts home," in told
    assert f"did you mean {meant}?" in told


@pytest.mark.parametrize("table", ["pool", "alerts", "Sales", "a b", "a__b", ""])
def test_a_section_whose_table_cannot_be_told_from_ours_or_overridden_is_refused(table: str) -> None:
    with pytest.raises(DefinitionError, match=r"resembles the built-in section|has an invalid table name"):

        class _Wrong(Section, table=table):
            x: int = 1


def test_root_is_found_from_a_folder_inside_the_project(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = root / "a" / "deployments"  # a folder with the same name, but not the project's
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    assert load_settings({}).root == root


def test_root_is_found_from_the_code_outside_of_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings({}, code=ROOT / "ml_assets" / "definitions.py").root == ROOT


def test_folder_outside_of_a_project_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        SettingsError, match=r"no project: no deployments/\*/settings\.toml in .* Next: run the command"
    ):
        load_settings({})
    with pytest.raises(SettingsError, match=f"in {tmp_path / 'installed'} or the folders above"):
        load_settings({}, code=tmp_path / "installed" / "definitions.py")


def test_account_without_a_name_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(module.getpass, "getuser", nameless)
    assert operating_system_user() is None
