"""Everything this project raises on purpose.

::

    MlAssetsError
    ├── SettingsError             settings are missing, malformed or name an unknown target
    ├── DefinitionError           an asset is declared in a way that cannot be kept
    ├── StoreError                content could not be stored or fetched
    │   ├── ContentMissing        the remote does not hold the version asked for
    │   ├── ContentCorrupt        what the remote holds does not have the digest that it is filed under
    │   ├── RemoteUnreachable     the remote did not answer, or refused
    │   └── StoreFull             no space, or no right to write
    ├── TrackingError             the MLflow server did not answer, or refused
    ├── InputError                an input has no version, or its content cannot be read as the type asked for
    ├── SchemaError               a frame does not have the columns, types or values that were promised
    ├── ImageError                an image asset could not be made
    │   └── RegistryError         the registry did not answer, or refused
    ├── PlacementError            a step has no place to run
    │   ├── CodeMismatch          the code in its image is not the code that the code location expects
    │   ├── AcceleratorUnavailable  the devices that its pool promises are not there, or were not used
    │   └── EngineRefused         the container engine will not start its container, now or later
    ├── EngineUnreachable         the container engine did not answer
    ├── DatabaseUnreachable       Dagster's database did not answer for longer than a short outage
    ├── AlertError                an alert could not be delivered
    ├── SourceError               the commit that the code is at could not be read
    ├── RecordError               a materialization has no provenance record, or a malformed one
    │   └── RecordTooNew          its provenance record has a later form than this version reads
    ├── RetentionError            something cannot be collected now
    ├── BackupError               a backup cannot be made, or is not whole
    ├── ReproductionRefused       a past materialization cannot be run again as it was
    ├── LineageError              a question about lineage has no answer
    │   ├── UnknownReference      nothing recorded has this name
    │   └── AmbiguousReference    several recorded things have this name
    └── ServingError              the model server cannot do what it was asked
        ├── ModelUnavailable      a model could not be found, fetched, verified or loaded
        ├── RequestError          a request cannot be read
        │   ├── InvalidInput      a value, column or tensor is not what the model's signature asks for
        │   ├── NotServed         there is no such model, version or page
        │   ├── MethodNotAllowed  the page is there, and not for this method
        │   ├── MediaTypeRefused  the body is of a type that is not understood
        │   ├── BodyTooLarge      the body is longer than the server takes
        │   ├── BodyTooSlow       the body did not arrive in time
        │   └── ClientGone        the client hung up before it had sent its request
        ├── Overloaded            there is no room or no time for another request now
        └── PredictionFailed      the model did not answer

Each says what happened, to which asset, and what to do next.
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
    """Base of the tree.

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


class DefinitionError(MlAssetsError):
    """An asset is declared in a way that cannot be kept."""


class StoreError(MlAssetsError):
    """Content could not be stored or fetched."""


class ContentMissing(StoreError):
    """The remote does not hold the version asked for."""


class ContentCorrupt(StoreError):
    """What the remote holds does not have the digest that it is filed under."""


class RemoteUnreachable(StoreError):
    """The remote did not answer, or refused."""


class StoreFull(StoreError):
    """No space left, or no right to write."""


class TrackingError(MlAssetsError):
    """The MLflow server did not answer, or refused."""


class InputError(MlAssetsError):
    """An input has no version, or its content cannot be read as the type asked for."""


class SchemaError(MlAssetsError):
    """A frame does not have the columns, types or values that were promised."""


class ImageError(MlAssetsError):
    """An image asset could not be made."""


class RegistryError(ImageError):
    """The registry did not answer, or refused."""


class PlacementError(MlAssetsError):
    """A step has no place to run."""


class CodeMismatch(PlacementError):
    """The code in a step's image is not the code that the code location expects."""


class AcceleratorUnavailable(PlacementError):
    """The devices that a pool promises are not there, or were not used."""


class EngineRefused(PlacementError):
    """The container engine will not start a container, now or later."""


class EngineUnreachable(MlAssetsError):
    """The container engine did not answer."""


class DatabaseUnreachable(MlAssetsError):
    """Dagster's database did not answer for longer than a short outage."""


class AlertError(MlAssetsError):
    """An alert could not be delivered."""


class SourceError(MlAssetsError):
    """The commit that the code is at could not be read."""


class RecordError(MlAssetsError):
    """A materialization has no provenance record, or a malformed one."""


class RecordTooNew(RecordError):
    """A provenance record has a later form than this version reads."""


class RetentionError(MlAssetsError):
    """Something cannot be collected now."""


class BackupError(MlAssetsError):
    """A backup cannot be made, or is not whole."""


class ReproductionRefused(MlAssetsError):
    """A past materialization cannot be run again as it was."""


class LineageError(MlAssetsError):
    """A question about lineage has no answer."""


class UnknownReference(LineageError):
    """Nothing recorded has this name."""


class AmbiguousReference(LineageError):
    """Several recorded things have this name."""


class ServingError(MlAssetsError):
    """The model server cannot do what it was asked."""


class ModelUnavailable(ServingError):
    """A model could not be found, fetched, verified or loaded."""


class RequestError(ServingError):
    """A request cannot be read."""


class InvalidInput(RequestError):
    """A value, column or tensor is not what the model's signature asks for."""


class NotServed(RequestError):
    """There is no such model, version or page."""


class MethodNotAllowed(RequestError):
    """The page is there, and not for this method."""


class MediaTypeRefused(RequestError):
    """The body is of a type that is not understood."""


class BodyTooLarge(RequestError):
    """The body is longer than the server takes."""


class BodyTooSlow(RequestError):
    """The body did not arrive in time."""


class ClientGone(RequestError):
    """The client hung up before it had sent its request."""


class Overloaded(ServingError):
    """There is no room or no time for another request now."""


class PredictionFailed(ServingError):
    """The model did not answer."""
