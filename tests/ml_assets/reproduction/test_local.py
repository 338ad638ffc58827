"""`ml-assets reproduce` on the local target: a project in a git repository with later commits."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from mlflow import MlflowClient

from ml_assets.resources.provenance import REPRODUCTION_METADATA
from ml_assets.resources.tracking.tags import RunTags
from tests.ml_assets.executors.runs import until

ROOT = Path(__file__).parents[3]
SETTINGS = """
home = "var/dagster"
[dvc]
remote = "var/remote"
cache = "var/cache"
[mlflow]
tracking_uri = "sqlite:///var/mlflow/mlflow.db"
"""
WORKSPACE = "load_from:\n  - python_module: project.definitions\n"
FIRST = """
import dagster as dg
import pandas as pd
from ml_assets.datasets import dataset
from ml_assets.target import Target
from ml_assets.features import feature_set
from ml_assets.models import TrainedModel, model
from pathlib import Path

letters = dg.StaticPartitionsDefinition(["a", "b"])

@dataset(partitions_def=letters)
def numbers() -> pd.DataFrame:
    return pd.DataFrame({"x": [1.0, 2.0, 3.0]})

@model(registered_name="line", partitions_def=letters)
def line(numbers: pd.DataFrame) -> TrainedModel:
    from sklearn.linear_model import LinearRegression
    estimator = LinearRegression().fit(numbers[["x"]], numbers["x"] * 2)
    return TrainedModel(estimator, numbers[["x"]], {"slope": float(estimator.coef_[0])})

@feature_set(partitions_def=letters)
def slow(numbers: pd.DataFrame) -> pd.DataFrame:
    import time
    gate = Path(Target.from_environment().settings.home).parent / "gate"
    if gate.exists():
        (gate / "waiting").touch()
        time.sleep(600)
    return numbers

@dg.definitions
def defs() -> dg.Definitions:
    return dg.Definitions(assets=[numbers, line, slow], resources=Target.from_environment().resources)
"""
# The input has another name and content, the model other partitions and another function.
SECOND = """
import dagster as dg
import pandas as pd
from ml_assets.datasets import dataset
from ml_assets.target import Target
from ml_assets.models import TrainedModel, model

days = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-01-03")

@dataset(partitions_def=days)
def figures() -> pd.DataFrame:
    return pd.DataFrame({"x": [1.0, 2.0, 5.0]})

@model(registered_name="line", partitions_def=days)
def line(figures: pd.DataFrame) -> TrainedModel:
    from sklearn.linear_model import LinearRegression
    estimator = LinearRegression().fit(figures[["x"]], figures["x"] * 3)
    return TrainedModel(estimator, figures[["x"]], {"slope": float(estimator.coef_[0])})

@dg.definitions
def defs() -> dg.Definitions:
    return dg.Definitions(assets=[figures, line], resources=Target.from_environment().resources)
"""
MATERIALIZE = """
import json, sys
from pathlib import Path
import dagster as dg
from ml_assets.target import Target
from project.definitions import defs
note = Path("project/notes.txt")
with Target.from_environment() as target:
    for partition, names, is_dirty in json.loads(sys.argv[1]):
        note.write_text("not committed") if is_dirty else note.unlink(missing_ok=True)
        defs().resolve_implicit_global_asset_job_def().execute_in_process(
            asset_selection=[dg.AssetKey(name) for name in names], partition_key=partition, instance=target.instance
        )
note.unlink(missing_ok=True)
"""


@dataclass(frozen=True)
class Project:
    """A user's project with its repository and its home."""

    folder: Path
    variables: dict[str, str]

    def commit(self, definitions: str) -> str:
        (self.folder / "project" / "definitions.py").write_text(definitions)
        self.git("add", ".")
        self.git("commit", "--quiet", "--message", "as it is now")
        return self.git("rev-parse", "HEAD")

    def git(self, *arguments: str) -> str:
        own = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
        done = subprocess.run(["git", *own, *arguments], cwd=self.folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def materialize(self, *steps: tuple[str, list[str], bool]) -> None:
        """Materialize runs; each has a partition, assets, and whether a file differs from the commit."""
        self._python("-c", MATERIALIZE, json.dumps(steps), check=True)

    def reproduce(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._python("-m", "ml_assets.cli", "reproduce", *arguments)

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "ml_assets.cli", "reproduce", *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.folder, env=self.variables, stdout=pipe, stderr=pipe, text=True)

    def instance(self) -> dg.DagsterInstance:
        return dg.DagsterInstance.from_config(str(self.folder / "var" / "dagster"))

    def everything(self) -> dict[str, Any]:
        """Return the state that a reproduction must not change."""
        with self.instance() as instance:
            events = {
                key.to_user_string(): len(instance.fetch_materializations(key, limit=100).records)
                for key in instance.all_asset_keys()
            }
            client = MlflowClient(f"sqlite:///{self.folder}/var/mlflow/mlflow.db")
            return {
                "events": events,
                "runs": instance.get_runs_count(),
                "content": {str(path) for path in (self.folder / "var" / "remote").rglob("*")},
                "models": len(client.search_model_versions("name = 'line'")),
                "MLflow runs": len(client.search_runs(["1"])),
                "git": self.git("status", "--porcelain") + self.git("worktree", "list"),
                "temporary": sorted(os.listdir(self.variables["TMPDIR"])),
            }

    def _python(self, *arguments: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=self.folder, env=self.variables, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project materialized at one commit and again at the next."""
    folder = tmp_path_factory.mktemp("users") / "theirs"
    files = {
        "deployments/local/settings.toml": SETTINGS,
        "workspace.yaml": WORKSPACE,
        ".gitignore": "var/\n__pycache__/\n",
        "project/__init__.py": "",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    temporary = tmp_path_factory.mktemp("temporary")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("ML_ASSETS", "DAGSTER"))}
    found = Project(folder, {**variables, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary), "COLUMNS": "200"})
    found.git("init", "--quiet")
    found.commit(FIRST)
    found.materialize(("a", ["numbers", "line", "slow"], False), ("b", ["numbers"], True))
    found.commit(SECOND)
    found.materialize(("2026-01-01", ["figures", "line"], False))
    return found


def test_past_commit_gives_the_same_model_though_its_input_was_renamed_and_it_was_repartitioned(
    project: Project,
) -> None:
    before = project.everything()
    done = project.reproduce("line@a", "--json")
    assert done.returncode == 0, done.stderr
    verdict = json.loads(done.stdout)
    assert (verdict["outcome"], verdict["partition"], verdict["warnings"]) == ("bit-identical", "a", [])
    assert verdict["commit"] == project.git("rev-parse", "HEAD~1")
    assert "materializing " in done.stderr, "people see what goes on"
    assert project.everything() == before
    with project.instance() as instance:
        (logged,) = instance.fetch_observations(dg.AssetKey("line"), limit=10).records
        assert logged.partition_key == "a"
        observation = logged.event_log_entry.asset_observation
        assert observation
        assert observation.metadata[REPRODUCTION_METADATA].value["outcome"] == "bit-identical"
    client = MlflowClient(f"sqlite:///{project.folder}/var/mlflow/mlflow.db")
    tagged = client.search_runs(["1"], f"tags.`{RunTags.REPRODUCTION}` = 'bit-identical'")
    assert [run.data.tags[RunTags.PARTITION] for run in tagged] == ["a"]


def test_two_at_once_and_an_interrupt_leave_nothing_behind(project: Project) -> None:
    before = project.everything()
    gate = project.folder / "var" / "gate"
    gate.mkdir()
    with project.begin("slow@a") as interrupted:
        until((gate / "waiting").exists, "the asset runs again")
        gate.rename(gate.with_name("open"))  # later readers do not wait
        with project.begin("slow@a", "--json") as other:
            out, err = other.communicate()
        assert other.returncode == 0, err
        assert json.loads(out)["outcome"] == "bit-identical"
        interrupted.send_signal(signal.SIGTERM)
        interrupted.communicate()
    assert interrupted.returncode != 0
    assert project.everything() == before
    with project.instance() as instance:
        assert len(instance.fetch_observations(dg.AssetKey("slow"), limit=10).records) == 1


def test_what_the_process_at_the_commit_refuses_is_told(project: Project) -> None:
    refused = project.reproduce("numbers@b")
    assert refused.returncode == 2
    assert "numbers@b: it would run under other conditions than recorded: " in refused.stderr
    assert "uncommitted changes: recorded sha256:" in refused.stderr
    assert refused.stdout == ""
