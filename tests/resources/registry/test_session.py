"""Authentication and TLS against a real registry, with a token service and an authority made for the test."""

import base64
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from ml_assets.resources.errors import RegistryError
from ml_assets.resources.registry.client import RegistryClient
from ml_assets.resources.registry.session import is_loopback
from tests.conftest import require_program
from tests.oci_registry import OciRegistry

USER, PASSWORD = "anna", "open sesame"
PASSWORD_FILE = "anna:$2b$04$RHbk4wGAA56TueXAJ0V.i.yV7NXfVzFGMOgattKNAJu7u/vd/mxCC\n"


@pytest.fixture
def program() -> str:
    return require_program("docker-registry", "docker-registry")


@pytest.fixture
def docker_config(tmp_path: Path) -> Path:
    return tmp_path / "config.json"


@pytest.fixture
def protected(program: str, tmp_path: Path) -> Iterator[OciRegistry]:
    """A registry that requires user and password, and holds one image."""
    passwords = tmp_path / "htpasswd"
    passwords.write_text(PASSWORD_FILE)
    settings = {"auth": {"htpasswd": {"realm": "test", "path": str(passwords)}}}
    with OciRegistry.started(program, tmp_path / "registry", settings=settings, user=(USER, PASSWORD)) as registry:
        registry.push_image("ml/train", "v1")
        yield registry


def test_registry_with_passwords_takes_those_in_dockers_configuration(
    protected: OciRegistry, docker_config: Path
) -> None:
    _log_in(docker_config, protected.host, PASSWORD)
    assert RegistryClient(docker_config=docker_config).find(f"{protected.host}/ml/train:v1") is not None


def test_registry_with_passwords_refuses_without_them_and_says_to_log_in(
    protected: OciRegistry, docker_config: Path
) -> None:
    with pytest.raises(RegistryError, match=f"UNAUTHORIZED.*Next: run docker login {protected.host}"):
        RegistryClient(docker_config=docker_config).find(f"{protected.host}/ml/train:v1")


def test_wrong_password_is_refused_and_not_shown(protected: OciRegistry, docker_config: Path) -> None:
    _log_in(docker_config, protected.host, "wrong secret")
    with pytest.raises(RegistryError, match="refused") as caught:
        RegistryClient(docker_config=docker_config).find(f"{protected.host}/ml/train:v1")
    assert "wrong secret" not in str(caught.value)


def test_anonymous_bearer_token_is_fetched_where_the_registry_asks_for_one(
    program: str, tmp_path: Path, docker_config: Path
) -> None:
    with _token_registry(program, tmp_path) as (registry, service):
        assert RegistryClient(docker_config=docker_config).find(f"{registry.host}/ml/train:v1") is not None
    assert service.requests == [("GET", {"service": "registry", "scope": "repository:ml/train:pull"}, None)]


def test_bearer_token_is_asked_for_once_and_with_the_credentials(
    program: str, tmp_path: Path, docker_config: Path
) -> None:
    with _token_registry(program, tmp_path) as (registry, service):
        _log_in(docker_config, registry.host, PASSWORD)
        client = RegistryClient(docker_config=docker_config)
        client.labels(client.resolve(f"{registry.host}/ml/train:v1").reference)
    assert [authorization for _, _, authorization in service.requests] == [_basic(PASSWORD)]


def test_identity_token_is_exchanged_for_a_bearer_token(program: str, tmp_path: Path, docker_config: Path) -> None:
    with _token_registry(program, tmp_path) as (registry, service):
        docker_config.write_text(json.dumps({"auths": {registry.host: {"identitytoken": "refresh me"}}}))
        assert RegistryClient(docker_config=docker_config).find(f"{registry.host}/ml/train:v1") is not None
    method, form, _ = service.requests[0]
    assert method == "POST"
    assert form["refresh_token"] == "refresh me"
    assert form["scope"] == "repository:ml/train:pull"


def test_netrc_does_not_replace_the_bearer_token(
    program: str, tmp_path: Path, docker_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login other password other\n")
    netrc.chmod(0o600)
    with _token_registry(program, tmp_path) as (registry, _):
        monkeypatch.setenv("NETRC", str(netrc))
        assert RegistryClient(docker_config=docker_config).find(f"{registry.host}/ml/train:v1") is not None


def test_certificate_of_an_unknown_authority_is_refused_and_trusted_once_the_system_knows_it(
    program: str, tmp_path: Path, docker_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Registries with loopback names are accessed without TLS; this address reaches the same server but is not loopback.
    certificate, key = _certificate(tmp_path, "0.0.0.0")
    tls = {"certificate": str(certificate), "key": str(key)}
    with OciRegistry.started(program, tmp_path / "registry", settings={"http": {"tls": tls}}) as registry:
        name = f"0.0.0.0:{registry.host.rpartition(':')[2]}/ml/train:v1"
        for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
            monkeypatch.delenv(variable, raising=False)
        with pytest.raises(RegistryError, match=r"certificate of 0\.0\.0\.0:.* is not trusted"):
            RegistryClient(docker_config=docker_config).find(name)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert RegistryClient(docker_config=docker_config).find(name) is None


def test_registry_is_spoken_to_without_tls_where_settings_say_so(
    oci_registry: OciRegistry, docker_config: Path
) -> None:
    oci_registry.push_image("ml/train", "v1")
    host = f"0.0.0.0:{oci_registry.host.rpartition(':')[2]}"
    assert RegistryClient(plain_http=[host], docker_config=docker_config).find(f"{host}/ml/train:v1") is not None
    with pytest.raises(RegistryError, match=r"images\.plain_http"):
        RegistryClient(docker_config=docker_config).find(f"{host}/ml/train:v1")


@pytest.mark.parametrize("registry", ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"])
def test_loopback_names_are_known(registry: str) -> None:
    assert is_loopback(registry)


@pytest.mark.parametrize("registry", ["registry.example", "localhost.example:5000", "10.0.0.1", "0.0.0.0:5000"])
def test_other_names_are_not_loopback(registry: str) -> None:
    assert not is_loopback(registry)


def _log_in(docker_config: Path, host: str, password: str) -> None:
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    docker_config.write_text(json.dumps({"auths": {host: {"auth": auth}}}))


def _basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"{USER}:{password}".encode()).decode()


class _TokenService(ThreadingHTTPServer):
    """Issues tokens that a registry trusts, and records each request."""

    def __init__(self, key: rsa.RSAPrivateKey, certificate: Path) -> None:
        super().__init__(("127.0.0.1", 0), _TokenHandler)
        self._key = key
        self._chain = base64.b64encode(
            x509.load_pem_x509_certificate(certificate.read_bytes()).public_bytes(serialization.Encoding.DER)
        ).decode()
        self.requests: list[tuple[str, dict[str, str], str | None]] = []

    def token(self, actions: list[str]) -> str:
        now = int(datetime.now(UTC).timestamp())
        access = [{"type": "repository", "name": "ml/train", "actions": actions}]
        claims = {"iss": "test", "aud": "registry", "sub": "", "nbf": now - 60, "exp": now + 600, "access": access}
        parts = [{"typ": "JWT", "alg": "RS256", "x5c": [self._chain]}, claims | {"iat": now, "jti": "1"}]
        signed = ".".join(_base64url(json.dumps(part).encode()) for part in parts)
        return f"{signed}.{_base64url(self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


class _TokenHandler(BaseHTTPRequestHandler):
    server: _TokenService

    def do_GET(self) -> None:
        self._answer(urlsplit(self.path).query, "token")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])).decode(), "access_token")

    def _answer(self, query: str, field: str) -> None:
        asked = {name: values[0] for name, values in parse_qs(query).items()}
        self.server.requests.append((self.command, asked, self.headers.get("Authorization")))
        body = json.dumps({field: self.server.token(["pull"])}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _token_registry(program: str, folder: Path) -> Iterator[tuple[OciRegistry, _TokenService]]:
    certificate, key_file = _certificate(folder, "127.0.0.1")
    key = serialization.load_pem_private_key(key_file.read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    with _TokenService(key, certificate) as service:
        thread = threading.Thread(target=service.serve_forever, args=(0.02,))
        thread.start()
        realm = f"http://127.0.0.1:{service.server_port}/token"
        token: Mapping[str, Any] = {
            "realm": realm,
            "service": "registry",
            "issuer": "test",
            "rootcertbundle": str(certificate),
        }
        try:
            with OciRegistry.started(
                program, folder / "registry", settings={"auth": {"token": token}}, token=service.token(["pull", "push"])
            ) as registry:
                registry.push_image("ml/train", "v1")
                yield registry, service
        finally:
            service.shutdown()
            thread.join()


def _certificate(folder: Path, address: str) -> tuple[Path, Path]:
    """Create a self-signed certificate for an address, and return it with its key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ml-assets test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    return files


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
