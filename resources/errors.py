"""All errors that this project raises on purpose.

::

    MlAssetsError
    ├── SettingsError             settings are missing, malformed or name an unknown target
    │   └── MissingPackage        a package that an extra installs is missing
    ├── DefinitionError           a declaration, or the result of an asset, is not supported
    ├── StoreError                content could not be stored or fetched
    │   ├── ContentMissing        the remote does not hold the requested version
    │   ├── ContentCorrupt        content in the remote does not match its digest
    │   ├── RemoteUnreachable     the remote did not answer, or refused the request
    │   └── StoreFull             no space left, or no write permission
    ├── TrackingError             the MLflow server did not answer, or refused the request
    ├── InputError                an input has no version, or its content cannot be read as the requested type
    ├── RunConfigRefused          a run config contains something that must not be stored, such as a password
    ├── SchemaError               a table does not match its schema, or cannot be stored as Parquet
    ├── ImageError                an image cannot be built, or one of its inputs is missing
    │   └── RegistryError         the registry did not answer, or refused the request
    ├── PlacementError            a step cannot run on its pool or in its image
    │   ├── CodeMismatch          the code in its image differs from the code that the code location expects
    │   ├── AcceleratorUnavailable  the accelerators of its pool are missing, or were not used
    │   └── EngineRefused         the container engine permanently rejects its container
    ├── EngineUnreachable         the container engine did not answer
    ├── DatabaseUnreachable       Dagster's database did not answer for longer than a short outage
    ├── AlertError                an alert could not be delivered
    ├── SourceError               the commit of the code could not be read
    ├── RecordError               a materialization has no provenance record, or a malformed one
    │   └── RecordTooNew          its provenance record has a newer format than this version reads
    ├── RetentionError            garbage collection cannot run now
    ├── BackupError               a backup cannot be made, or is incomplete
    ├── ReproductionRefused       a past materialization cannot be reproduced
    ├── LineageError              a lineage query cannot be answered
    │   ├── UnknownReference      no record matches the reference
    │   └── AmbiguousReference    several records match the reference
    └── ServingError              the model server cannot serve a model or a request
        ├── ModelUnavailable      a model could not be found, fetched, verified or loaded
        ├── RequestError          a request cannot be read
        │   ├── InvalidInput      a value, column or tensor does not match the model's signature
        │   ├── NotServed         the server has no such model, version or page
        │   ├── MethodNotAllowed  the page does not support this HTTP method
        │   ├── MediaTypeRefused  the media type of the body is not supported
        │   ├── BodyTooLarge      the body exceeds the server's size limit
        │   ├── BodyTooSlow       the body did not arrive in time
        │   └── ClientGone        the client disconnected before it sent the whole request
        ├── Overloaded            the server is not ready, full, or too slow for the request
        └── PredictionFailed      the prediction failed

Each error states what happened, to which asset, and what to do next.
"""

import functools
from typing import Any, Self

__all__ = [
    "AcceleratorUnavailable",
    "AlertError",
    "AmbiguousReference",
    "BackupError",
    "BodyTooLarge",
    "BodyTooSlow",
    "ClientGone",
    "CodeMismatch",
    "ContentCorrupt",
    "ContentMissing",
    "DatabaseUnreachable",
    "DefinitionError",
    "EngineRefused",
    "EngineUnreachable",
    "ImageError",
    "InputError",
    "InvalidInput",
    "LineageError",
    "MediaTypeRefused",
    "MethodNotAllowed",
    "MissingPackage",
    "MlAssetsError",
    "ModelUnavailable",
    "NotServed",
    "Overloaded",
    "PlacementError",
    "PredictionFailed",
    "RecordError",
    "RecordTooNew",
    "RegistryError",
    "RemoteUnreachable",
    "ReproductionRefused",
    "RequestError",
    "RetentionError",
    "RunConfigRefused",
    "SchemaError",
    "ServingError",
    "SettingsError",
    "SourceError",
    "StoreError",
    "StoreFull",
    "TrackingError",
    "UnknownReference",
]


class MlAssetsError(Exception):
    """The base class of all errors.

    Args:
        what: what happened, as one sentence without its full stop.
        next_step: what the reader should do about it, in the imperative.
        asset: the asset it happened to, as ``key@partition``; layers that do not know it leave it out and
            `for_asset` adds it where it is known.
    """

    def __init__(self, what: str, *, next_step: str, asset: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.next_step = next_step
        self.asset = asset

    def __str__(self) -> str:
        subject = f"{self.asset}: " if self.asset else ""
        return f"{subject}{self.what}. Next: {self.next_step}."

    def __reduce__(self) -> tuple[Any, ...]:
        # Steps and file storage run in other processes; pickling copies an exception by its positional arguments alone.
        return functools.partial(type(self), self.what, next_step=self.next_step), (), self.__dict__

    def for_asset(self, asset: str) -> Self:
        """Return the same error with the asset's name, unless it already names one."""
        self.asset = self.asset or asset
        return self


class SettingsError(MlAssetsError):
    """Settings are missing, malformed or name an unknown target."""


class MissingPackage(SettingsError):
    """A package that an extra installs is missing."""


class DefinitionError(MlAssetsError):
    """A declaration, or the result of an asset, is not supported."""


class StoreError(MlAssetsError):
    """Content could not be stored or fetched."""


class ContentMissing(StoreError):
    """The remote does not hold the requested version."""


class ContentCorrupt(StoreError):
    """Content in the remote does not match its digest."""


class RemoteUnreachable(StoreError):
    """The remote did not answer, or refused the request."""


class StoreFull(StoreError):
    """No space left, or no write permission."""


class TrackingError(MlAssetsError):
    """The MLflow server did not answer, or refused the request."""


class InputError(MlAssetsError):
    """An input has no version, or its content cannot be read as the requested type."""


class RunConfigRefused(MlAssetsError):
    """The config of a run contains something that must not be stored, such as a password."""


class SchemaError(MlAssetsError):
    """A table does not match its schema, or cannot be stored as Parquet."""


class ImageError(MlAssetsError):
    """An image cannot be built, or one of its inputs is missing."""


class RegistryError(ImageError):
    """The registry did not answer, or refused the request."""


class PlacementError(MlAssetsError):
    """A step cannot run on its pool or in its image."""


class CodeMismatch(PlacementError):
    """The code in a step's image differs from the code that the code location expects."""


class AcceleratorUnavailable(PlacementError):
    """The accelerators of a pool are missing, or were not used."""


class EngineRefused(PlacementError):
    """The container engine permanently rejects a container."""


class EngineUnreachable(MlAssetsError):
    """The container engine did not answer."""


class DatabaseUnreachable(MlAssetsError):
    """Dagster's database did not answer for longer than a short outage."""


class AlertError(MlAssetsError):
    """An alert could not be delivered."""


class SourceError(MlAssetsError):
    """The commit of the code could not be read."""


class RecordError(MlAssetsError):
    """A materialization has no provenance record, or a malformed one."""


class RecordTooNew(RecordError):
    """A provenance record has a newer format than this version reads."""


class RetentionError(MlAssetsError):
    """Garbage collection cannot run now."""


class BackupError(MlAssetsError):
    """A backup cannot be made, or is incomplete."""


class ReproductionRefused(MlAssetsError):
    """A past materialization cannot be reproduced."""


class LineageError(MlAssetsError):
    """A lineage query cannot be answered."""


class UnknownReference(LineageError):
    """No record matches the reference."""


class AmbiguousReference(LineageError):
    """Several records match the reference."""


class ServingError(MlAssetsError):
    """The model server cannot serve a model or a request."""


class ModelUnavailable(ServingError):
    """A model could not be found, fetched, verified or loaded."""


class RequestError(ServingError):
    """A request cannot be read."""


class InvalidInput(RequestError):
    """A value, column or tensor does not match the model's signature."""


class NotServed(RequestError):
    """The server has no such model, version or page."""


class MethodNotAllowed(RequestError):
    """The page does not support this HTTP method."""


class MediaTypeRefused(RequestError):
    """The media type of the body is not supported."""


class BodyTooLarge(RequestError):
    """The body exceeds the server's size limit."""


class BodyTooSlow(RequestError):
    """The body did not arrive in time."""


class ClientGone(RequestError):
    """The client disconnected before it sent the whole request."""


class Overloaded(ServingError):
    """The server is not ready, full, or too slow for the request."""


class PredictionFailed(ServingError):
    """The prediction failed."""
