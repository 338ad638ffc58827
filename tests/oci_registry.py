"""A real OCI registry (Debian's docker-registry) for tests, and pushes of small images by its HTTP API."""

import hashlib
import json
import re
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True)
class OciRegistry:
    """A running registry."""

    host: str
    """``host:port``, as in image names."""
    storage: Path
    user: tuple[str, str] | None = None
    token: str | None = None

    @classmethod
    @contextmanager
    def started(
        cls,
        program: str,
        storage: Path,
        *,
        settings: Mapping[str, Any] | None = None,
        address: str = "127.0.0.1:0",
        user: tuple[str, str] | None = None,
        token: str | None = None,
    ) -> Iterator["OciRegistry"]:
        """Start a registry and stop it when the block ends; ``settings`` are added to its configuration."""
        storage.mkdir(parents=True)
        extra = dict(settings or {})
        configuration = {
            "version": 0.1,
            "log": {"level": "info"},
            "storage": {"filesystem": {"rootdirectory": str(storage)}},
            "http": {"addr": address, **extra.pop("http", {})},
            **extra,
        }
        file = storage.with_suffix(".yml")
        file.write_text(json.dumps(configuration))  # JSON is valid YAML
        with subprocess.Popen([program, "serve", str(file)], stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr
            log = process.stderr
            try:
                host = _listening(log)
                threading.Thread(target=lambda: [None for _ in log], daemon=True).start()
                yield cls(host, storage, user, token)
            finally:
                process.terminate()
                process.wait(480)

    def push_image(
        self,
        repository: str,
        tag: str,
        *,
        architecture: str = "amd64",
        variant: str | None = None,
        labels: Mapping[str, str] | None = None,
        **manifest: Any,
    ) -> str:
        """Push an image of one small layer and return the manifest's digest; ``manifest`` is added to the manifest."""
        platform = {"os": "linux", "architecture": architecture} | ({"variant": variant} if variant else {})
        config = self.push_blob(repository, json.dumps(platform | {"config": {"Labels": labels}}).encode())
        layer = self.push_blob(repository, b"layer of " + repository.encode())
        content = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, **config},
            "layers": [{"mediaType": LAYER, **layer}],
        }
        return self.push_manifest(repository, tag, content | manifest)

    def push_index(self, repository: str, tag: str, platforms: Mapping[str, str]) -> str:
        """Push an index of manifests (platform → digest) and return the index's digest."""
        entries = []
        for name, digest in platforms.items():
            system, architecture, *variant = name.split("/")
            platform = {"os": system, "architecture": architecture} | ({"variant": variant[0]} if variant else {})
            entries.append({"mediaType": MANIFEST, "digest": digest, "size": 1, "platform": platform})
        return self.push_manifest(repository, tag, {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})

    def push_manifest(self, repository: str, tag: str, content: Mapping[str, Any]) -> str:
        """Push a manifest or index unchanged and return its digest."""
        body = json.dumps(content).encode()
        address = f"http://{self.host}/v2/{repository}/manifests/{tag}"
        self._send("PUT", address, data=body, headers={"Content-Type": content["mediaType"]})
        return _digest(body)

    def push_blob(self, repository: str, content: bytes) -> dict[str, Any]:
        """Push bytes and return digest and size in the form of a descriptor."""
        upload = self._send("POST", f"http://{self.host}/v2/{repository}/blobs/uploads/")
        self._send("PUT", upload.headers["Location"], params={"digest": _digest(content)}, data=content)
        return {"digest": _digest(content), "size": len(content)}

    def blob_file(self, digest: str) -> Path:
        """Return the registry's file of a blob or manifest."""
        value = digest.removeprefix("sha256:")
        return self.storage / "docker/registry/v2/blobs/sha256" / value[:2] / value / "data"

    def _send(self, method: str, url: str, headers: Mapping[str, str] | None = None, **arguments: Any) -> Any:
        authorization = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        proxies: Any = {"http": None}
        answer = requests.request(
            method,
            url,
            headers={**(headers or {}), **authorization},
            auth=self.user,
            proxies=proxies,
            timeout=30,
            **arguments,
        )
        assert answer.ok, f"{method} {url}: {answer.status_code} {answer.text}"
        return answer


def _listening(log: Any) -> str:
    seen = []
    for line in log:
        seen.append(line)
        found = re.search(r"listening on ([^\s,\"]+)", line)
        if found:
            return found[1]
    raise AssertionError("the registry did not start:\n" + "".join(seen))


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
