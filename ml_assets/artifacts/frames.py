"""Keeping what datasets and feature sets return: frames, files and directories."""

from pathlib import Path
from typing import Any

import pandas as pd

from ml_assets.artifacts.factory import Kept, Step
from ml_assets.artifacts.metadata import frame_metadata
from ml_assets.resources.errors import SchemaError
from ml_assets.resources.identity import Digest

__all__ = ["keep_data", "keep_frame"]


def keep_data(value: Any, step: Step) -> Kept:
    """Store a frame, a file or a directory."""
    if isinstance(value, Path):
        if not value.exists():
            raise SchemaError(f"the function returned {value}, which does not exist", next_step="write it, then return")
        content = step.storage.store.put(value)
        return Kept(Digest.parse(content.version), content, {"files": content.files})
    return keep_frame(value, step, accepted="a pandas DataFrame or a Path")


def keep_frame(value: Any, step: Step, accepted: str = "a pandas DataFrame") -> Kept:
    """Store a frame."""
    if not isinstance(value, pd.DataFrame):
        raise SchemaError(
            f"the function returned a {type(value).__name__}, and {accepted} can be kept",
            next_step="return one of these",
        )
    content = step.storage.store.put_frame(value)
    return Kept(Digest.parse(content.version), content, frame_metadata(value))
