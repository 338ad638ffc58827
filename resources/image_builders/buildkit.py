"""Builds images with BuildKit, through ``docker buildx``, and pushes them to a registry.

Each image has the tag ``key-<build key>`` in its repository, so that the registry itself tells whether it was built
before. The tag serves only for look-ups; the record holds its digest.
"""

import re
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from ml_assets.resources.errors import ImageError, RegistryError
from ml_assets.resources.git.source import read_source
from ml_assets.resources.identity import Digest, ImageReference
from ml_assets.resources.image_builders.base_images import LOCK_FILE, base_image_reference
from ml_assets.resources.image_builders.build_key import base_digests, build_key
from ml_assets.resources.image_builders.buildx import Builder, BuildError, Buildx
from ml_assets.resources.image_builders.environment import running_environment_digest
from ml_assets.resources.image_builders.environment_digest import EnvironmentRecipe
from ml_assets.resources.image_builders.interface import BuiltImage, ImageBuilder, ImageSpec
from ml_assets.resources.image_builders.progress import BuildProgress
from ml_assets.resources.image_builders.secret_values import secret_values
from ml_assets.resources.provenance import REPRODUCTION_VERSION, ImageLabels, Source
from ml_assets.resources.registry.client import PublishedImage, RegistryClient

__all__ = ["BuildKit", "BuildOptions"]

_OCI = "org.opencontainers.image"
# The Distribution registry answers so if a tag is read while another request writes it.
_SERVER_ERROR = re.compile(
    r"\b50[0234] (Internal Server Error|Bad Gateway|Service Unavailable|Gateway Time-?out)", re.I
)
_DIRTY = "-dirty"
_CACHE_TAG = "cache"


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """Settings of image builds and of their destination."""

    registry: str
    """Registry to push to, as ``host[:port]``."""
    base_registry: str
    """Registry of the base images."""
    prefix: str = ""
    """Prefix of each image's repository: ``prefix/name``."""
    platforms: tuple[str, ...] = ("linux/amd64",)
    """Platforms to build for. The manifest of the first one is the recorded image."""
    plain_http: tuple[str, ...] = ()
    """Registries without TLS."""
    secrets: Mapping[str, Path] = field(default_factory=dict)
    """Secret files by the secret's id; builds can read them, and images keep no trace of them."""
    proxies: Mapping[str, str] = field(default_factory=dict)
    """``http_proxy`` and similar, for the build only. Never with a password: attestations show them."""
    network: str | None = None
    """Network of ``RUN`` instructions: ``default``, ``host`` or ``none``."""
    registry_cache: bool = False
    """True if layers are also cached in the registry, for short-lived builders."""
    attestations: bool = True
    """True if the build's provenance is attached, where the builder supports it."""
    sbom_scanner: str | None = None
    """Image that generates the SBOM to attach; without it there is no SBOM."""
    source_date_epoch: int = 0
    """Seconds since 1970 used for every timestamp in an image, so that the same inputs give the same layers."""


class BuildKit(ImageBuilder):
    """Builds the images that the registry does not hold yet, with BuildKit.

    Args:
        root: the project's folder.
        registry: client of the registries.
        buildx: the program that builds.
        options: settings of builds and their destination.
    """

    def __init__(self, root: Path, registry: RegistryClient, buildx: Buildx, options: BuildOptions) -> None:
        self._root, self._registry, self._buildx, self._options = root, registry, buildx, options

    def build(self, spec: ImageSpec, log: Callable[[str], None]) -> BuiltImage:
        """Build and push the image, unless the registry already holds it.

        Raises:
            ImageError: an input is missing, the build failed, or the build program is not installed.
            RegistryError: the registry did not answer, or refused the push.
            EngineUnreachable: the builder did not answer.
        """
        key = self.build_key(spec)
        found = self._find(spec, key, read_source(self._root))
        if found is None:
            return self._make(spec, key, log)
        built = self._described(*found, key, f"{spec.name}: already in the registry, as {found[0].reference}")
        log(built.explanation)
        return built

    def build_key(self, spec: ImageSpec) -> Digest:
        """Return the build key for the image's current inputs."""
        return build_key(spec, self._root, base_digests(spec, self._root), self._options.platforms)

    def environment_digest(self) -> Digest:
        """Return the environment digest of the image that this process runs in, else the interpreter's."""
        return running_environment_digest(self._root)

    def _find(self, spec: ImageSpec, key: Digest, source: Source) -> "tuple[PublishedImage, Mapping[str, str]] | None":
        """Return the image with this key and its labels; None if it must be built."""
        image = self._registry.find(f"{self._name(spec)}:{_tag(key)}")
        if image is None or not all(platform in image.platforms for platform in self._options.platforms):
            return None
        labels = self._registry.labels(self._manifest(image))
        if labels.get(ImageLabels.BUILD_KEY) != str(key) or ImageLabels.ENVIRONMENT not in labels:
            return None
        # Rebuild once the same files are committed: the old image's label would call them uncommitted for ever.
        revision = labels.get(f"{_OCI}.revision", _DIRTY)
        if source.commit is not None and source.dirty is False and revision.endswith(_DIRTY):
            return None
        return image, labels

    def _make(self, spec: ImageSpec, key: Digest, log: Callable[[str], None]) -> BuiltImage:
        run = _Build(spec, self._root, self._buildx, self._options, log)
        environment = run.environment_digest()
        name = f"{self._name(spec)}:{_tag(key)}"
        run.push(name, key, environment, read_source(self._root))
        image = self._registry.find(name)
        if image is None:
            raise RegistryError(
                f"image {spec.name} was pushed, but {self._options.registry} does not have it",
                next_step="check that images.registry is the registry that the builder pushes to, and run again",
            )
        labels = self._registry.labels(self._manifest(image))
        if labels.get(ImageLabels.BUILD_KEY) != str(key):
            raise RegistryError(
                f"image {spec.name} was pushed, but {name} is a different image",
                next_step="find out which other process pushes to this repository, and run again",
            )
        explanation = f"{spec.name}: built and pushed, as {image.reference}{run.left_out()}"
        log(explanation)
        return self._described(image, labels, key, explanation, built=True)

    def _described(
        self, image: PublishedImage, labels: Mapping[str, str], key: Digest, explanation: str, *, built: bool = False
    ) -> BuiltImage:
        return BuiltImage(
            environment_digest=Digest.parse(labels[ImageLabels.ENVIRONMENT]),
            image=self._manifest(image),
            index_digest=image.reference.digest if image.is_index else None,
            build_key=key,
            built=built,
            explanation=explanation,
        )

    def _manifest(self, image: PublishedImage) -> ImageReference:
        first = self._options.platforms[0]
        if first not in image.platforms:
            raise RegistryError(
                f"{image.reference} supports {', '.join(image.platforms)}, but not {first}",
                next_step="set images.platforms to the platforms that the builder supports",
            )
        return ImageReference(image.reference.registry, image.reference.repository, image.platforms[first])

    def _name(self, spec: ImageSpec) -> str:
        return "/".join(part for part in (self._options.registry, self._options.prefix.strip("/"), spec.name) if part)


class _Build:
    """One build of one image."""

    def __init__(
        self, spec: ImageSpec, root: Path, buildx: Buildx, options: BuildOptions, log: Callable[[str], None]
    ) -> None:
        self._spec, self._root, self._buildx, self._options, self._log = spec, root, buildx, options, log
        lock = root / LOCK_FILE
        self._bases = {
            argument: base_image_reference(lock, name, options.base_registry) for argument, name in spec.bases.items()
        }
        self._recipe = EnvironmentRecipe(spec, root)
        self._builder: Builder = buildx.builder()

    def environment_digest(self) -> Digest:
        """Return the environment digest; if dependencies are resolved in a stage, build that stage for it."""
        digests = {argument: reference.digest for argument, reference in self._bases.items()}
        if not self._recipe.draws_on_locked:
            return self._recipe.digest(digests, None)
        with tempfile.TemporaryDirectory() as folder:
            self._run("--target", self._spec.locked_stage, "--output", f"type=local,dest={folder}")
            files = (file for file in Path(folder).rglob("*") if file.is_file())
            locked = {file.relative_to(folder).as_posix(): Digest.of_bytes(file.read_bytes()) for file in files}
        return self._recipe.digest(digests, locked)

    def push(self, name: str, key: Digest, environment: Digest, source: Source) -> None:
        """Build the image and push it under a name.

        A push is repeated once if the registry fails while it answers: what is built is in the builder's cache.
        """
        target = ("--target", self._spec.target) if self._spec.target else ()
        arguments = (
            *target,
            "--platform",
            ",".join(self._options.platforms),
            *_repeated("--build-arg", _baked(source, environment)),
            *_repeated("--label", self._labels(key, environment, source)),
            *self._attestations(),
            *self._cache(name),
            "--output",
            self._output(name),
        )
        try:
            self._run(*arguments)
        except RegistryError as error:
            if not _SERVER_ERROR.search(error.what):
                raise
            self._log(f"{self._spec.name}: the registry failed, pushing again")
            self._run(*arguments)

    def left_out(self) -> str:
        """Return the features that the builder does not support, for the explanation."""
        missing = []
        if self._options.attestations and not self._builder.attestations:
            missing.append("attestations (the engine needs its containerd image store for them)")
        if not self._builder.fixed_timestamps:
            missing.append("fixed timestamps in layers (the engine's own BuildKit cannot push them)")
        return f"; without {' and '.join(missing)}" if missing else ""

    def _run(self, *arguments: str) -> None:
        options = self._options
        progress = BuildProgress(self._log, list(secret_values(options.secrets)))
        status = self._buildx.build(
            [
                "--file",
                str(self._root / self._spec.dockerfile),
                *_repeated("--build-arg", {name: str(reference) for name, reference in self._bases.items()}),
                *_repeated("--build-arg", self._spec.arguments),
                *_repeated("--build-arg", options.proxies),
                *_repeated("--build-arg", {"SOURCE_DATE_EPOCH": str(options.source_date_epoch)}),
                *(part for id_, file in options.secrets.items() for part in ("--secret", f"id={id_},src={file}")),
                *_network(options.network),
                *arguments,
                str(self._root / self._spec.context),
            ],
            progress,
        )
        if status:
            raise self._failed(progress)

    def _failed(self, progress: BuildProgress) -> BuildError:
        if not progress.is_instruction:
            error = self._buildx.explained(progress)
            error.what = f"image {self._spec.name}: {error.what}"
            return error
        line = progress.dockerfile_line
        place = f"{self._spec.dockerfile}:{line}" if line else self._spec.dockerfile
        last = "\n".join(f"  {written}" for written in progress.last_lines)
        return ImageError(
            f"image {self._spec.name} was not built. {progress.failed_step} ended with these lines:\n{last}\n"
            f"{place} failed: {progress.reason}",
            next_step=f"fix {place} or the program that it runs, and materialize the image again",
        )

    def _labels(self, key: Digest, environment: Digest, source: Source) -> dict[str, str]:
        lock = self._root / self._spec.lock
        created = datetime.fromtimestamp(self._options.source_date_epoch, UTC)
        labels = {
            f"{_OCI}.title": self._spec.name,
            f"{_OCI}.created": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            f"{_OCI}.version": _version(self._root),
            f"{_OCI}.revision": source.commit and f"{source.commit}{_DIRTY if source.dirty else ''}",
            f"{_OCI}.source": source.repository,
            ImageLabels.ENVIRONMENT: str(environment),
            ImageLabels.LOCK: str(Digest.of_bytes(lock.read_bytes())),
            ImageLabels.BUILD_KEY: str(key),
            ImageLabels.REPRODUCES: str(REPRODUCTION_VERSION),
        }
        bases = list(self._bases.values())
        if len(bases) == 1:
            labels |= {f"{_OCI}.base.digest": str(bases[0].digest), f"{_OCI}.base.name": _without_digest(bases[0])}
        return {name: value for name, value in labels.items() if value}

    def _attestations(self) -> Iterator[str]:
        wanted = self._options.attestations and self._builder.attestations
        yield "--provenance=mode=max" if wanted else "--provenance=false"
        if wanted and self._options.sbom_scanner:
            yield f"--attest=type=sbom,generator={self._options.sbom_scanner}"

    def _cache(self, name: str) -> Iterator[str]:
        if not self._options.registry_cache or not self._builder.fixed_timestamps:
            return
        place = f"type=registry,ref={name.rpartition(':')[0]}:{_CACHE_TAG}"
        insecure = ",registry.insecure=true" if self._options.registry in self._options.plain_http else ""
        yield from ("--cache-from", place + insecure, "--cache-to", f"{place},mode=max,ignore-error=true{insecure}")

    def _output(self, name: str) -> str:
        output = f"type=image,name={name},push=true"
        if self._builder.fixed_timestamps:
            output += ",rewrite-timestamp=true"
            if self._options.registry in self._options.plain_http:
                output += ",registry.insecure=true"
        return output


def _tag(key: Digest) -> str:
    return f"key-{key.hex}"


def _repeated(option: str, values: Mapping[str, str]) -> Iterator[str]:
    for name, value in values.items():
        yield from (option, f"{name}={value}")


def _network(name: str | None) -> tuple[str, ...]:
    # buildx asks for this flag if the builder is not the engine's own.
    allowed = ("--allow", "network.host") if name == "host" else ()
    return ("--network", name, *allowed) if name else ()


def _baked(source: Source, environment: Digest) -> dict[str, str]:
    """Return build arguments with which an image describes itself; Dockerfiles that do not declare them ignore them."""
    values = {
        "COMMIT": source.commit,
        "DIRTY": None if source.dirty is None else str(source.dirty).lower(),
        "DIFF_DIGEST": source.diff_digest,
        "REPOSITORY": source.repository,
        "ENVIRONMENT_DIGEST": str(environment),
    }
    return {name: value for name, value in values.items() if value}


def _version(root: Path) -> str | None:
    try:
        version = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    except (OSError, ValueError, KeyError):
        return None
    return str(version)


def _without_digest(reference: ImageReference) -> str:
    return f"{reference.registry}/{reference.repository}"
