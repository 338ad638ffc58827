"""Random projects: source text of assets that use the factories, and the inputs that each asset declares."""

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

__all__ = ["PARTITIONS", "RandomAsset", "RandomProject", "commit", "random_project"]

PARTITIONS: Final[dict[str | None, list[str | None]]] = {
    None: [None],
    "months": ["2013-01-01", "2013-02-01", "2013-03-01"],
    "parts": ["x", "y"],
    "grid": [f"{month}|{part}" for month in ("2013-01-01", "2013-02-01", "2013-03-01") for part in ("x", "y")],
}

_HEAD = '''"""A random project."""

from pathlib import Path

import dagster as dg
import pandas as pd

from ml_assets.containers import runs_in
from ml_assets.datasets import dataset
from ml_assets.features import feature_set
from ml_assets.images import container_image
from tests.ml_assets.lineage.index.observed_steps import resources, work

months = dg.MonthlyPartitionsDefinition("2013-01-01", end_date="2013-04-01")
parts = dg.StaticPartitionsDefinition(["x", "y"])
grid = dg.MultiPartitionsDefinition({"month": months, "part": parts})
train = container_image("train", dockerfile="Dockerfile", sources=["project"])
'''

_TAIL = """

defs = dg.Definitions(
    assets=[train, {names}],
    resources=resources(),
    executor=dg.in_process_executor,
)
"""


@dataclass(frozen=True)
class RandomAsset:
    """One step of a project.

    Attributes:
        keys: assets that the step makes; more than one for a multi-asset.
        loads: assets whose content the step receives.
        follows: assets that only have to exist.
        partitions: name of the step's partitions, if any.
        runs_in_image: True if the image is a dependency.
    """

    keys: tuple[str, ...]
    source: str
    partitions: str | None
    loads: tuple[str, ...] = ()
    follows: tuple[str, ...] = ()
    runs_in_image: bool = False


@dataclass
class RandomProject:
    """Assets, each of which reads some earlier assets and possibly its own past."""

    random: Random
    assets: list[RandomAsset] = field(default_factory=list)
    forms: dict[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write the project as a module in a new git repository."""
        names = ", ".join(_function(asset) for asset in self.assets)
        text = _HEAD + "".join(asset.source for asset in self.assets) + _TAIL.format(names=names)
        folder.mkdir(parents=True)
        (folder / "project.py").write_text(text)
        subprocess.run(["git", "init", "--quiet", folder], check=True)
        commit(folder)

    def add(self) -> None:
        """Add an asset."""
        name, partitions = f"a{len(self.assets)}", self.random.choice([*PARTITIONS])
        read = self.random.sample([*self.forms], min(len(self.forms), self.random.choice([1, 1, 2, 2, 3])))
        form = self.random.choices(["Path", "Folder", "pd.DataFrame", "plain", "multi"], [3, 1, 3, 1, 1])[0]
        if not self.forms or (form in ("plain", "multi") and not read):
            form = "Path"
        ins = [self._in(upstream, partitions) for upstream in read]
        parameters = [f"{upstream}: {self._annotation(upstream)}" for upstream in read]
        if partitions == "months" and form in ("Path", "pd.DataFrame") and self.random.random() < 0.4:
            ins.append(f'"past": {_asset_in(name, "dg.TimeWindowPartitionMapping(-1, -1)")}')
            self.forms[name] = form
            parameters.append(f"past: {self._annotation(name)}")
            read.append(name)
        before = [key for asset in self.assets for key in asset.keys if asset.partitions == partitions]
        follows = self.random.sample(before, 1) if before and self.random.random() < 0.3 else []
        follows = [key for key in follows if key not in read]
        options = {
            "partitions_def": partitions,
            "ins": "{" + ", ".join(ins) + "}" if ins else None,
            "deps": str(follows) if follows and form != "multi" else None,
            "retry_policy": "dg.RetryPolicy(max_retries=1)" if self.random.random() < 0.8 else None,
        }
        in_image = self.random.random() < 0.7
        head, keys = self._decorators(name, form, options, in_image)
        arguments = "".join(f", {each.partition(':')[0]}={each.partition(':')[0]}" for each in parameters)
        signature = ", ".join(["context: dg.AssetExecutionContext", *parameters])
        returns = {"Folder": "Path", "plain": "None", "multi": "object"}.get(form, form)
        verb = "yield from" if form == "multi" else "return"
        body = f'def {name}({signature}) -> {returns}:\n    {verb} work(context, "{form}"{arguments})\n'
        self.assets.append(
            RandomAsset(
                keys=keys,
                source=f"\n\n{head}\n{body}",
                partitions=partitions,
                loads=tuple(read),
                follows=tuple(follows) if form != "multi" else (),
                runs_in_image=in_image,
            )
        )
        if form not in ("plain", "multi"):
            self.forms[name] = form

    def _decorators(
        self, name: str, form: str, options: dict[str, str | None], in_image: bool
    ) -> tuple[str, tuple[str, ...]]:
        given = ", ".join(f"{key}={value}" for key, value in options.items() if value)
        if form == "multi":
            outs = "{" + ", ".join(f'"{name}_{side}": dg.AssetOut(dagster_type=dg.Nothing)' for side in "lr") + "}"
            head, keys = f"@dg.multi_asset(outs={outs}, {given})", (f"{name}_l", f"{name}_r")
        elif form == "plain":
            head, keys = f"@dg.asset({given})", (name,)
        else:
            factory = "feature_set" if form == "pd.DataFrame" else "dataset"
            image = "image=train, " if in_image else ""
            return f"@{factory}({image}{given})", (name,)
        return (f"@runs_in(train)\n{head}" if in_image else head), keys

    def _in(self, upstream: str, partitions: str | None) -> str:
        """Return the input declaration of another asset, for an asset with these partitions."""
        theirs = next(asset.partitions for asset in self.assets if upstream in asset.keys)
        choices = [None]
        if theirs == partitions == "months":
            choices = [None, "dg.TimeWindowPartitionMapping(-1, 0, True)", "dg.TimeWindowPartitionMapping(-2, 0, True)"]
        elif theirs is not None and partitions is None:
            choices = [None, "dg.LastPartitionMapping()"] if theirs != "grid" else [None]
        elif theirs is not None and {theirs, partitions} not in ({"months", "grid"}, {"parts", "grid"}, {theirs}):
            choices = ["dg.AllPartitionMapping()"]
        return f'"{upstream}": {_asset_in(upstream, self.random.choice(choices))}'

    def _annotation(self, upstream: str) -> str:
        form = self.forms[upstream]
        return "pd.DataFrame | None" if form == "pd.DataFrame" else "dict[str, Path]"


def random_project(random: Random, size: int) -> RandomProject:
    """Return a project with this number of assets."""
    project = RandomProject(random)
    for _ in range(size):
        project.add()
    return project


def commit(folder: Path) -> str:
    """Commit the folder's content, even if unchanged, and return the commit."""
    git = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "add", "--all"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "next"], check=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


def _function(asset: RandomAsset) -> str:
    return asset.keys[0].partition("_")[0]


def _asset_in(key: str, mapping: str | None) -> str:
    given = f'dg.AssetIn("{key}", input_manager_key="ml_assets_storage"'
    return f"{given}, partition_mapping={mapping})" if mapping else f"{given})"
