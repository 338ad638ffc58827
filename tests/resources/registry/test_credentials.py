"""Credentials from Docker's configuration, with real credential helpers: small programs on the path."""

import base64
import json
from pathlib import Path

import pytest

from ml_assets.resources.errors import RegistryError
from ml_assets.resources.registry import credentials
from ml_assets.resources.registry.credentials import Credentials, read_credentials


@pytest.fixture
def docker_config(tmp_path: Path) -> Path:
    return tmp_path / "config.json"


@pytest.fixture
def helper(tmp_path: Path, docker_config: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A credential helper for one registry; its file also contains a password."""
    program = tmp_path / "docker-credential-test"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    auths = {"registry.example": {"auth": base64.b64encode(b"anna:in the file").decode()}}
    docker_config.write_text(json.dumps({"credHelpers": {"registry.example": "test"}, "auths": auths}))
    return program


def write_program(program: Path, text: str) -> None:
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o700)


@pytest.mark.parametrize(
    "entry",
    [
        {"auth": base64.b64encode(b"anna:pass:word").decode()},
        {"username": "anna", "password": "pass:word"},
    ],
)
@pytest.mark.parametrize("address", ["registry.example", "https://registry.example/v1/"])
def test_credentials_are_read_in_every_form_that_docker_writes(
    docker_config: Path, entry: dict[str, str], address: str
) -> None:
    docker_config.write_text(json.dumps({"auths": {address: entry, "other.example": {"auth": "!"}}}))
    assert read_credentials(docker_config, "registry.example") == Credentials("anna", "pass:word")


def test_credentials_of_another_registry_are_not_used(docker_config: Path) -> None:
    docker_config.write_text(
        json.dumps({"auths": {"registry.example": {"auth": base64.b64encode(b"anna:open").decode()}}})
    )
    assert read_credentials(docker_config, "registry.example:5000") is None


def test_credential_helper_is_asked_before_the_file(docker_config: Path, helper: Path) -> None:
    write_program(helper, 'read host\necho "{\\"Username\\": \\"$host\\", \\"Secret\\": \\"s\\"}"')
    assert read_credentials(docker_config, "registry.example") == Credentials("registry.example", "s")


def test_identity_token_of_a_credential_helper_is_known_as_one(docker_config: Path, helper: Path) -> None:
    write_program(helper, """echo '{"Username": "<token>", "Secret": "refresh"}'""")
    found = read_credentials(docker_config, "registry.example")
    assert found is not None
    assert found.is_identity_token
    assert found.password == "refresh"


def test_file_serves_where_the_credential_helper_holds_nothing(docker_config: Path, helper: Path) -> None:
    write_program(helper, "echo credentials not found in native keychain\nexit 1")
    assert read_credentials(docker_config, "registry.example") == Credentials("anna", "in the file")


def test_credential_helper_that_fails_is_named(docker_config: Path, helper: Path) -> None:
    write_program(helper, "echo the session has expired\nexit 1")
    with pytest.raises(RegistryError, match="docker-credential-test failed"):
        read_credentials(docker_config, "registry.example")


def test_credential_helper_that_answers_something_else_is_named(docker_config: Path, helper: Path) -> None:
    write_program(helper, "echo hello")
    with pytest.raises(RegistryError, match="docker-credential-test failed"):
        read_credentials(docker_config, "registry.example")


def test_credential_helper_that_hangs_is_given_up(
    docker_config: Path, helper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "_HELPER_SECONDS", 0.05)
    write_program(helper, "exec sleep 2")
    with pytest.raises(RegistryError, match="docker-credential-test did not answer"):
        read_credentials(docker_config, "registry.example")


def test_credential_helper_that_is_missing_is_named(docker_config: Path) -> None:
    docker_config.write_text(json.dumps({"credsStore": "no-such-store"}))
    with pytest.raises(RegistryError, match="docker-credential-no-such-store is not installed"):
        read_credentials(docker_config, "registry.example")


@pytest.mark.parametrize("text", ["not json", "[]", '{"auths": {"registry.example": {"auth": "c2VjcmV0!"}}}'])
def test_malformed_configuration_is_refused_without_quoting_it(docker_config: Path, text: str) -> None:
    docker_config.write_text(text)
    with pytest.raises(RegistryError, match=r"cannot be read as a Docker configuration") as caught:
        read_credentials(docker_config, "registry.example")
    assert "c2Vj" not in str(caught.value)


def test_password_is_not_in_the_representation_of_credentials() -> None:
    assert "secret" not in repr(Credentials("anna", "secret"))
