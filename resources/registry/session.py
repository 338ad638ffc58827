"""HTTP sessions with an OCI registry: TLS, Docker's credentials, bearer tokens, and errors as ours.

Sources: the OCI distribution specification 1.1 and the token authentication specification of the Distribution
project. All requests are idempotent: reads, deletions by digest, and uploads of content named by its digest.
"""

import base64
import ipaddress
import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

from ml_assets.resources.errors import RegistryError
from ml_assets.resources.registry.credentials import Credentials, read_credentials

if TYPE_CHECKING:
    import requests

__all__ = ["RegistryResponse", "RegistrySession", "is_loopback"]

_BODY_LIMIT = 8 * 1024 * 1024
_PART = 1024 * 1024
_PUSH = "pull,push"
_ATTEMPTS_AFTER_FAILURE = 2


@dataclass(frozen=True, slots=True)
class RegistryResponse:
    """A complete answer of the registry: status, headers (by lower-case name) and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class RegistrySession:
    """Requests to one registry, with the authentication that it requests.

    Args:
        registry: host with an optional port.
        plain_http: use HTTP without TLS. Loopback addresses always do.
        docker_config: Docker's ``config.json`` with the credentials; a missing file means none.
        timeout: seconds to wait for a connection, and for each part of an answer.
        reached_at: ``host[:port]`` at which this process reaches it; the registry's name if left out.
    """

    def __init__(
        self, registry: str, *, plain_http: bool, docker_config: Path, timeout: float, reached_at: str | None = None
    ) -> None:
        self.registry = registry
        self._host = reached_at or registry
        self._docker_config = docker_config
        self._timeout = timeout
        self._loopback = is_loopback(registry)
        self._scheme = "http" if plain_http or self._loopback else "https"
        self._authorizations: dict[tuple[str, str], str] = {}
        self._http: requests.Session | None = None

    def get(self, path: str, *, repository: str, accept: str) -> RegistryResponse:
        """Send a GET for ``path`` (with its leading slash), with the right to pull from ``repository``.

        Raises:
            RegistryError: no connection, untrusted certificate, refused, too busy, or broken. A 404 is returned
                like any other answer, because only the caller knows its meaning.
        """
        answer = self._authorized("GET", path, repository, "pull", {"Accept": accept})
        if answer.status in (200, 404):
            return answer
        raise self._refusal(answer, f"GET {path}")

    def delete(self, path: str, *, repository: str) -> bool:
        """Delete ``path``, with the right to delete from ``repository``; return False if it did not exist.

        Raises:
            RegistryError: as `get`, and if the registry does not support deletion.
        """
        answer = self._authorized("DELETE", path, repository, "pull,delete", {})
        if answer.status in (200, 202, 204):
            return True
        if answer.status == 404:
            return False
        if answer.status == 405 or "UNSUPPORTED" in _error_message(answer.body):
            raise RegistryError(
                f"the registry {self.registry} does not allow deletion",
                next_step="enable deletion (storage.delete.enabled in the Distribution registry), or leave images out",
            )
        raise self._refusal(answer, f"DELETE {path}")

    def may_push(self, repository: str) -> None:
        """Start an upload to a repository and cancel it, to check the right to push; the registry keeps nothing.

        Raises:
            RegistryError: as `get`.
        """
        upload = self._begin_upload(repository)
        if upload:  # an upload that cannot be cancelled is removed by the registry's own cleanup
            self._authorized("DELETE", upload, repository, _PUSH, {})

    def download(self, path: str, *, repository: str, into: BinaryIO) -> bool:
        """Stream ``path`` to a file of any length; return False if it did not exist.

        Raises:
            RegistryError: as `get`.
        """
        answer = self._authorized("GET", path, repository, "pull", {"Accept": "*/*"}, into=into)
        if answer.status in (200, 404):
            return answer.status == 200
        raise self._refusal(answer, f"GET {path}")

    def upload(self, digest: str, *, repository: str, source: Path) -> None:
        """Push a file as a blob, unless the repository holds it.

        Raises:
            RegistryError: as `get`, and if the file has a different digest.
        """
        held = self._authorized("HEAD", f"/v2/{repository}/blobs/{digest}", repository, "pull", {})
        if held.status == 200:
            return
        place = self._begin_upload(repository)
        place += f"{'&' if '?' in place else '?'}digest={digest}"
        with source.open("rb") as content:
            headers = {"Content-Type": "application/octet-stream", "Content-Length": str(source.stat().st_size)}
            answer = self._authorized("PUT", place, repository, _PUSH, headers, data=content)
        if answer.status != 201:
            raise self._refusal(answer, f"pushing {digest} to {repository}")

    def put(self, path: str, *, repository: str, body: bytes, media_type: str) -> None:
        """Write a manifest at ``path``.

        Raises:
            RegistryError: as `get`.
        """
        answer = self._authorized("PUT", path, repository, _PUSH, {"Content-Type": media_type}, data=body)
        if answer.status != 201:
            raise self._refusal(answer, f"PUT {path}")

    def _begin_upload(self, repository: str) -> str:
        """Return the path of a new upload, without the host: the registry's name for itself may be unreachable here."""
        path = f"/v2/{repository}/blobs/uploads/"
        answer = self._authorized("POST", path, repository, _PUSH, {"Content-Length": "0"})
        if answer.status != 202:
            raise self._refusal(answer, f"pushing to {repository}")
        upload = urlsplit(answer.headers.get("location", ""))
        return f"{upload.path}?{upload.query}" if upload.query else upload.path

    def _authorized(
        self, method: str, path: str, repository: str, actions: str, headers: Mapping[str, str], **arguments: Any
    ) -> RegistryResponse:
        url = f"{self._scheme}://{self._host}{path}"
        key = (repository, actions)
        answer = self._request(method, url, {**headers, **self._authorization(key)}, **arguments)
        if answer.status == 401:
            self._authorizations[key] = self._authorize(answer, repository, actions)
            if hasattr(arguments.get("data"), "seek"):
                arguments["data"].seek(0)
            answer = self._request(method, url, {**headers, **self._authorization(key)}, **arguments)
        return answer

    def _authorization(self, key: tuple[str, str]) -> dict[str, str]:
        value = self._authorizations.get(key)
        return {"Authorization": value} if value else {}

    def _authorize(self, refusal: RegistryResponse, repository: str, actions: str) -> str:
        challenge = refusal.headers.get("www-authenticate", "")
        credentials = read_credentials(self._docker_config, self.registry)
        bearer = re.search(r"\bbearer\s+(.*)", challenge, re.IGNORECASE)
        if bearer:
            parameters = dict(re.findall(r'(\w+)="([^"]*)"', bearer[1]))
            return f"Bearer {self._token(parameters, f'repository:{repository}:{actions}', credentials)}"
        if re.match(r"\s*basic\b", challenge, re.IGNORECASE) and credentials and not credentials.is_identity_token:
            return _basic(credentials)
        raise self._refusal(refusal, f"the rights {actions} on {repository}")

    def _token(self, challenge: Mapping[str, str], scope: str, credentials: Credentials | None) -> str:
        realm = challenge.get("realm", "")
        address = urlsplit(realm)
        if address.scheme != "https" and not (address.scheme == "http" and self._scheme == "http"):
            raise RegistryError(
                f"the token service {realm!r} of {self.registry} has no TLS, so credentials are not safe there",
                next_step="ask the registry's operator to serve its token service over https",
            )
        query = {"service": challenge.get("service", ""), "scope": scope}
        if credentials and credentials.is_identity_token:
            form = {"grant_type": "refresh_token", "client_id": "ml-assets", "refresh_token": credentials.password}
            answer = self._request("POST", realm, {}, data=query | form)
        else:
            headers = {"Authorization": _basic(credentials)} if credentials else {}
            answer = self._request("GET", realm, headers, params=query)
        if answer.status != 200:
            raise self._refusal(answer, f"a token for {scope}")
        try:
            tree = json.loads(answer.body)
            return str(tree.get("token") or tree["access_token"])
        except (ValueError, KeyError, AttributeError) as error:
            raise RegistryError(
                f"the token service of {self.registry} at {realm} sent no token",
                next_step="check the registry's address; a proxy or login page may have answered instead",
            ) from error

    def _request(
        self, method: str, url: str, headers: Mapping[str, str], into: BinaryIO | None = None, **arguments: Any
    ) -> RegistryResponse:
        import requests

        session = self._http = self._http or _new_session()
        # Docker's tools do not send loopback traffic to a proxy either.
        proxies: Any = {"http": None, "https": None, "all": None} if self._loopback else None
        try:
            with session.request(
                method,
                url,
                headers=dict(headers),
                auth=_leave_as_is,
                timeout=self._timeout,
                stream=True,
                proxies=proxies,
                **arguments,
            ) as response:
                names = {name.lower(): value for name, value in response.headers.items()}
                return RegistryResponse(response.status_code, names, self._read(response, into))
        except requests.exceptions.SSLError as error:
            raise RegistryError(
                f"the TLS certificate of {self.registry} is not trusted: {error}",
                next_step="add its authority to the system's certificates (or set SSL_CERT_FILE or "
                "REQUESTS_CA_BUNDLE); list a registry without TLS in images.plain_http",
            ) from error
        except requests.RequestException as error:
            raise RegistryError(
                f"the registry {self.registry} did not answer: {error}",
                next_step="check that it runs and that this machine can reach it, then run again",
            ) from error

    def _read(self, response: "requests.Response", into: BinaryIO | None) -> bytes:
        body = bytearray()
        for part in response.iter_content(_PART):
            if into is not None and response.status_code == 200:
                into.write(part)
                continue
            body += part
            if len(body) > _BODY_LIMIT:
                raise RegistryError(
                    f"{self.registry} answered with more than {_BODY_LIMIT} bytes where a manifest was expected",
                    next_step="check the name of the image",
                )
        return bytes(body)

    def _refusal(self, answer: RegistryResponse, what: str) -> RegistryError:
        said = _error_message(answer.body)
        if answer.status in (401, 403):
            return RegistryError(
                f"{self.registry} refused {what}: {said or 'not authorized'}",
                next_step=f"run docker login {self.registry}, or set images.docker_config to a file with credentials",
            )
        if answer.status == 429:
            wait = answer.headers.get("retry-after")
            return RegistryError(
                f"{self.registry} refused {what} because of its rate limit: {said or 'too many requests'}",
                next_step=f"run again {f'after {wait} seconds' if wait else 'later'}, or log in for a higher limit",
            )
        return RegistryError(
            f"{self.registry} answered {what} with status {answer.status}{f': {said}' if said else ''}",
            next_step="check that the address is that of an OCI registry, and check the registry's log",
        )


def is_loopback(registry: str) -> bool:
    """Return True if ``host[:port]`` is this machine by name or address."""
    host = urlsplit(f"//{registry}").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _basic(credentials: Credentials) -> str:
    return "Basic " + base64.b64encode(f"{credentials.user}:{credentials.password}".encode()).decode()


def _leave_as_is(request: "requests.PreparedRequest") -> "requests.PreparedRequest":
    """Leave the request unchanged, so that ``~/.netrc`` does not replace our authorization header."""
    return request


def _new_session() -> "requests.Session":
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    session = requests.Session()
    system = ssl.get_default_verify_paths()
    session.verify = system.cafile or system.capath or True
    retries = Retry(
        total=_ATTEMPTS_AFTER_FAILURE,
        backoff_factor=0.2,
        status_forcelist=(502, 503, 504),
        respect_retry_after_header=False,
        raise_on_status=False,
    )
    session.mount("https://", HTTPAdapter(max_retries=retries))
    session.mount("http://", HTTPAdapter(max_retries=retries))
    return session


def _error_message(body: bytes) -> str:
    """Return the message of an error answer in the specification's format, else an empty text."""
    try:
        errors = json.loads(body)["errors"]
        return "; ".join(f"{error['code']}: {error.get('message', '')}" for error in errors)
    except (ValueError, KeyError, TypeError):
        return ""
