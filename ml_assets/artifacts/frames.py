"""The writers of datasets and feature sets: frames, files and directories."""

from pathlib import Path
from typing import Any

import pandas as pd

from ml_assets.artifacts.metadata import frame_metadata
from ml_assets.artifacts.writer import Stored, WriteContext
from ml_assets.resources.errors import SchemaError
from ml_assets.resources.identity import Digest

__all__ = ["write_data", "write_frame"]


def write_data(value: Any, context: WriteContext) -> Stored:
    """Store a frame, a file or a directory."""
    if isinstance(value, Path):
        if not value.exists():
            raise SchemaError(
                f"the function returned the path {value}, which does not exist",
                next_step="write the file or directory before you return its path",
            )
        content = context.storage.store.put(value)
        return Stored(Digest.parse(content.version), content, {"files": content.files})
    return write_frame(value, context, accepted="a pandas DataFrame or a Path")


def write_frame(value: Any, context: WriteContext, accepted: str = "a pandas DataFrame") -> Stored:
    """Store a frame."""
    if not isinstance(value, pd.DataFrame):
        raise SchemaError(
            f"expected the function to return {accepted}, got {type(value).__name__}",
            next_step=f"return {accepted}",
        )
    content = context.storage.store.put_frame(value)
    return Stored(Digest.parse(content.version), content, frame_metadata(value))
