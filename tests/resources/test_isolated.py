"""A store that only reads from the underlying store."""

from pathlib import Path

import pandas as pd

from ml_assets.resources.dvc.store import DvcStore
from ml_assets.resources.identity import Digest
from ml_assets.resources.isolated import ScratchStore


def test_what_is_stored_goes_into_the_folder_and_what_is_fetched_comes_from_the_store(tmp_path: Path) -> None:
    store = DvcStore(remote=str(tmp_path / "remote"), cache=str(tmp_path / "cache"))
    past = store.put_frame(pd.DataFrame({"x": [1]}))
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    scratch = ScratchStore(**dict(store), folder=str(tmp_path / "folder"))
    assert scratch.read_frame(Digest.parse(past.version))["x"].tolist() == [1]
    (tmp_path / "text").write_text("text")
    for made in (scratch.put_frame(pd.DataFrame({"x": [2]})), scratch.put(tmp_path / "text")):
        assert not store.has(Digest.parse(made.version))
        assert scratch.kept.has(Digest.parse(made.version))
    written = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert "remote" not in {path.relative_to(tmp_path).parts[0] for path in written}
    again = scratch.put_frame(pd.DataFrame({"x": [1]}))
    assert again.version == past.version
