"""Credentials of image registries, read from Docker's configuration with Docker's own client library."""

import json
import shutil
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ml_assets.resources.errors import RegistryError
from ml_assets.resources.time_limit import within

__all__ = ["Credentials", "read_credentials"]

_IDENTITY_TOKEN_USER = "<token>"  # noqa: S105 - the user name by which credential helpers mark an identity token
_HELPER_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Credentials:
    """Docker's credentials for one registry: a user and password, or an identity token."""

    user: str
    password: str = field(repr=False)

    @property
    def is_identity_token(self) -> bool:
        """Return True if the password is a refresh token to exchange (OAuth 2)."""
        return self.user == _IDENTITY_TOKEN_USER


def read_credentials(docker_config: Path, registry: str) -> Credentials | None:
    """Return the credentials for a registry from Docker's ``config.json`` or a credential helper.

    Args:
        docker_config: the file; a missing file means no credentials.
        registry: host with an optional port.

    Raises:
        RegistryError: the file cannot be read, or its credential helper fails.
    """
    from docker.errors import DockerException

    try:
        config = _read_config(docker_config, registry)
        helper = config.get_credential_store(registry)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, TypeError, DockerException) as error:
        # The text of such an error may quote a secret, so the message names only the error's type.
        raise RegistryError(
            f"{docker_config} cannot be read as a Docker configuration ({type(error).__name__})",
            next_step=f"run docker login {registry} again, or set images.docker_config to another file",
        ) from None
    if helper and shutil.which(f"docker-credential-{helper}") is None:
        raise _helper_error(helper, "is not installed")
    try:
        found: Mapping[str, str] = within(_HELPER_SECONDS, lambda: config.resolve_authconfig(registry)) or {}
    except TimeoutError as error:
        raise _helper_error(helper, "did not answer") from error
    except (DockerException, ValueError, KeyError) as error:
        raise _helper_error(helper, "failed") from error
    return _credentials({name.lower(): value for name, value in found.items()})


def _read_config(docker_config: Path, registry: str) -> Any:
    from docker.auth import AuthConfig

    tree = json.loads(docker_config.read_text())
    return AuthConfig(
        {
            "auths": AuthConfig.parse_auth(_entries(tree.get("auths", {}), registry), raise_on_error=True),
            "credHelpers": tree.get("credHelpers", {}),
            "credsStore": tree.get("credsStore"),
        }
    )


def _entries(auths: Mapping[str, Any], registry: str) -> dict[str, Any]:
    """Return only the registry's own entries, so that a malformed entry of another registry does no harm."""
    from docker.auth import convert_to_hostname

    return {address: _encoded(entry) for address, entry in auths.items() if convert_to_hostname(address) == registry}


def _encoded(entry: Any) -> Any:
    """Return an entry for Docker's library, which reads a user and password only in encoded form."""
    filled = {name: value for name, value in entry.items() if value}
    if "username" in filled and not {"auth", "identitytoken"} & filled.keys():
        pair = f"{filled['username']}:{filled.get('password', '')}"
        filled["auth"] = b64encode(pair.encode()).decode()
    return filled


def _credentials(found: Mapping[str, str]) -> Credentials | None:
    if token := found.get("identitytoken"):
        return Credentials(_IDENTITY_TOKEN_USER, token)
    user = found.get("username")
    return Credentials(user, found.get("password", "")) if user else None


def _helper_error(helper: str, what: str) -> RegistryError:
    return RegistryError(
        f"the credential helper docker-credential-{helper} {what}",
        next_step=f"install it, or remove {helper!r} from Docker's configuration and log in again",
    )
