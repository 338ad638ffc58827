"""The request for a reproduction. One version of this project writes it; another one, in a past image, reads it."""

import json

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ml_assets.resources.errors import ReproductionRefused
from ml_assets.resources.identity import AssetPartition
from ml_assets.resources.provenance import REPRODUCTION_VERSION

__all__ = ["DEFAULT_TOLERANCE", "ReproductionRequest", "parse_request"]

DEFAULT_TOLERANCE = 1e-6


class ReproductionRequest(BaseModel):
    """One materialization to run again, and how to judge the result.

    A new field in this form must be one that older readers can ignore; any other change makes another form.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int = REPRODUCTION_VERSION
    asset: str
    partition: str | None = None
    storage_id: int
    """Event in Dagster's log that carries the record."""
    data_version: str
    """Data version in that event, which detects an id that another event has since taken."""
    tolerance: float = Field(default=DEFAULT_TOLERANCE, ge=0, allow_inf_nan=False)
    """Largest difference of numbers that count as equal: relative to the recorded one, absolute if that is below 1."""
    allow_unpinned: bool = False
    """True to continue if code or environment differ from the record, with warnings in the verdict."""

    @property
    def artifact(self) -> AssetPartition:
        """Return the asset and its partition."""
        return AssetPartition(self.asset, self.partition)


def parse_request(text: str) -> ReproductionRequest:
    """Read a request.

    Raises:
        ReproductionRefused: the request is malformed, or has a format that this version does not read.
    """
    try:
        tree = json.loads(text)
        version = tree["version"]
    except (ValueError, TypeError, KeyError) as error:
        raise _malformed(f"the reproduction request is not a JSON object with a version: {text!r}") from error
    if version != REPRODUCTION_VERSION:
        raise ReproductionRefused(
            f"the reproduction request has format {version}, but the recorded code reads format {REPRODUCTION_VERSION}",
            next_step=f"use a version of ml-assets that writes format {REPRODUCTION_VERSION}",
        )
    try:
        return ReproductionRequest.model_validate(tree)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise _malformed(f"the reproduction request is malformed: {problems}") from error


def _malformed(what: str) -> ReproductionRefused:
    return ReproductionRefused(what, next_step="run ml-assets reproduce, which writes the request")
