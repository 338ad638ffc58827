"""A client of the MLflow server over plain HTTP, for model versions and their files.

MLflow proxies the files from any artifact store, so the model server needs no access to that store.
"""

import base64
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from ml_assets.resources.errors import ModelUnavailable, SettingsError
from ml_assets.resources.identity import Digest, ModelUri
from ml_assets.resources.tracking.tags import RunTags
from ml_assets.serving.model_files import LISTING, ModelFiles, cached, read_directory, verified_files
from ml_assets.serving.reference import ModelIdentity, ModelReference
from ml_assets.serving.settings import PREFIX, ServeSettings

if TYPE_CHECKING:
    import requests

__all__ = ["TrackingServer", "fetch_model", "resolve"]

_SAID_BYTES = 400
_FOLDERS = ("servable/", "")
_API = "/api/2.0/mlflow"


def resolve(reference: ModelReference, settings: ServeSettings) -> ModelIdentity | None:
    """Return the version that a reference currently names; None for a directory, which must be read first.

    Raises:
        ModelUnavailable: the version does not exist, or the tracking server does not answer.
        SettingsError: no tracking server is configured.
    """
    if not reference.is_registered:
        return None
    server = TrackingServer.of(settings)
    if reference.name is None:
        found = server.version_with(reference.digest)
    elif reference.alias is not None:
        found = server.version_of_alias(reference.name, reference.alias)
    else:
        found = server.version(reference.name, reference.version or "")
    version = ModelUri(found["name"], str(found["version"]))
    tags = {tag["key"]: tag["value"] for tag in found.get("tags", [])}
    try:
        digest = Digest.parse(tags[RunTags.DATA_VERSION])
    except (KeyError, ValueError) as error:
        raise ModelUnavailable(
            f"{version} has no tag {RunTags.DATA_VERSION} with a digest, so its content cannot be verified",
            next_step="materialize the model asset, which registers the model with this tag",
        ) from error
    return ModelIdentity(found["name"], str(found["version"]), digest, found["name"])


def fetch_model(reference: ModelReference, settings: ServeSettings) -> tuple[ModelIdentity, ModelFiles]:
    """Return the model that a reference currently names, and its verified files.

    Raises:
        ModelUnavailable: the model cannot be found, fetched or verified.
    """
    identity = resolve(reference, settings)
    if identity is None:
        directory = Path(reference.directory or "")
        content = read_directory(directory, reference.digest)
        name = settings.name or directory.resolve().name
        return ModelIdentity(name, content.digest.hex, content.digest), content
    content = TrackingServer.of(settings).files(identity, settings.cache)
    return replace(identity, name=settings.name or identity.name), content


class TrackingServer:
    """A client of an MLflow server.

    Args:
        address: address of the server, such as ``http://mlflow:5000``.
        headers: headers of every request.
        timeout: seconds to wait for the response to begin or continue.
    """

    def __init__(self, address: str, headers: Mapping[str, str], timeout: float = 20.0) -> None:
        self._address = address.rstrip("/")
        self._headers = dict(headers)
        self._timeout = timeout

    @classmethod
    def of(cls, settings: ServeSettings) -> "TrackingServer":
        """Return the client that the settings configure."""
        if not settings.tracking_uri:
            raise SettingsError(
                f"{settings.model} is a registered model, but no tracking server is set",
                next_step=f"set {PREFIX}TRACKING_URI (or MLFLOW_TRACKING_URI) to the MLflow server's address",
            )
        headers = {}
        if settings.tracking_token:
            headers["Authorization"] = f"Bearer {settings.tracking_token}"
        elif settings.tracking_username:
            pair = f"{settings.tracking_username}:{settings.tracking_password or ''}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        return cls(settings.tracking_uri, headers)

    def version(self, name: str, version: str) -> dict[str, Any]:
        """Return a version of a registered model."""
        found: dict[str, Any] = self._ask("/model-versions/get", name=name, version=version)["model_version"]
        return found

    def version_of_alias(self, name: str, alias: str) -> dict[str, Any]:
        """Return the version that has an alias."""
        found: dict[str, Any] = self._ask("/registered-models/alias", name=name, alias=alias)["model_version"]
        return found

    def version_with(self, digest: Digest | None) -> dict[str, Any]:
        """Return the latest registered version with a data version."""
        query = f"tags.`{RunTags.DATA_VERSION}` = '{digest}'"
        found = self._ask("/model-versions/search", filter=query).get("model_versions", [])
        if not found:
            raise ModelUnavailable(
                f"no registered model has the data version {digest}",
                next_step="set registered_name of the model asset and materialize it, or name a registered model",
            )
        latest: dict[str, Any] = max(found, key=lambda each: int(each.get("creation_timestamp") or 0))
        return latest

    def files(self, identity: ModelIdentity, cache: str | None) -> ModelFiles:
        """Return the verified files of a version."""
        folder, listing = self._listing(identity)
        fetch = lambda name, _: self._file(identity, folder + name)  # noqa: E731
        return verified_files(listing, cached(Path(cache), fetch) if cache else fetch, expected=identity.digest)

    def _listing(self, identity: ModelIdentity) -> tuple[str, bytes]:
        problem = None
        for folder in _FOLDERS:
            try:
                return folder, self._file(identity, folder + LISTING)
            except ModelUnavailable as error:
                problem = problem or error
        raise ModelUnavailable(
            f"cannot fetch {LISTING} of {ModelUri(identity.name, identity.version)}: {problem}",
            next_step="materialize the model with a version of ml-assets that exports models to ONNX",
        ) from problem

    def _file(self, identity: ModelIdentity, path: str) -> bytes:
        query = urlencode({"name": identity.name, "version": identity.version, "path": path}, quote_via=quote)
        return self._get(f"/model-versions/get-artifact?{query}")

    def _ask(self, page: str, **parameters: str) -> dict[str, Any]:
        answer = self._get(f"{_API}{page}?{urlencode(parameters, quote_via=quote)}")
        try:
            tree: dict[str, Any] = json.loads(answer)
        except ValueError as error:
            raise ModelUnavailable(
                f"the response of {self._address} is not one of an MLflow server: {answer[:80]!r}",
                next_step=f"check that {PREFIX}TRACKING_URI is the address of an MLflow server",
            ) from error
        return tree

    def _get(self, page: str) -> bytes:
        import requests

        started = time.monotonic()
        try:
            with self._session() as session, session.get(self._address + page, timeout=self._timeout) as answer:
                content = answer.content
        except requests.RequestException as error:
            waited = time.monotonic() - started
            raise ModelUnavailable(
                f"{self._address} did not answer within {waited:.1f} s: {error}",
                next_step="check the address, and check that the MLflow server runs",
            ) from error
        if not answer.ok:
            said = content[:_SAID_BYTES].decode(errors="replace")
            raise ModelUnavailable(
                f"{self._address} answered {answer.status_code} to {page.partition('?')[0]}: {said}",
                next_step="check the name of the model and the credentials",
            )
        return content

    def _session(self) -> "requests.Session":
        """Return a session that sends the credentials, but not after a redirect to another host."""
        import requests

        session = requests.Session()
        session.headers.update(self._headers)
        session.auth = _leave_as_is
        system = ssl.get_default_verify_paths()
        session.verify = system.cafile or system.capath or True
        return session


def _leave_as_is(request: "requests.PreparedRequest") -> "requests.PreparedRequest":
    """Keep `requests` from replacing the configured authorization with one from ``~/.netrc``."""
    return request
