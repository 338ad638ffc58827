"""The environment digest of a built image: one digest over all inputs of its environment stage.

The digest is input-addressed: the same inputs give the same digest on any machine and day, with or without a build. It
covers the instructions of the environment stage and of every stage that it uses, the arguments that they use, the
digests of their base images, the context files that they copy, and the content of the stage of resolved dependencies.
This content replaces all inputs of that stage. Therefore the project's code and the lock's other dependencies do not
affect the digest.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ml_assets.resources.errors import ImageError
from ml_assets.resources.identity import Digest
from ml_assets.resources.image_builders.build_key import described_files
from ml_assets.resources.image_builders.interface import ImageSpec
from ml_assets.resources.image_builders.stages import Stage, is_pattern, read_dockerfile

__all__ = ["EnvironmentRecipe"]

_FORM = 1


class EnvironmentRecipe:
    """The inputs of an image's environment stage.

    Args:
        spec: the image.
        root: the project's folder.

    Raises:
        ImageError: the Dockerfile is missing, cannot be read, or has no environment stage.
    """

    def __init__(self, spec: ImageSpec, root: Path) -> None:
        self._spec, self._context = spec, root / spec.context
        self._dockerfile = read_dockerfile(root / spec.dockerfile)
        stages = self._dockerfile.needed_for(spec.environment_stage, without=(spec.locked_stage,))
        if stages is None:
            raise ImageError(
                f"{spec.dockerfile} has no stage named {spec.environment_stage}",
                next_step=f"write FROM … AS {spec.environment_stage} above the instructions that install dependencies",
            )
        self._stages = stages

    @property
    def draws_on_locked(self) -> bool:
        """Return True if the environment stage uses the stage of resolved dependencies, which must then be exported."""
        known = {stage.name for stage in self._dockerfile.stages}
        return self._spec.locked_stage in known and any(
            self._spec.locked_stage in stage.draws_on() for stage in self._stages
        )

    def digest(self, base_digests: Mapping[str, Digest], locked: Mapping[str, Digest] | None) -> Digest:
        """Return the environment digest.

        Args:
            base_digests: digest of each base image by its build argument.
            locked: digest of each file that the stage of resolved dependencies holds, by path.

        Raises:
            ImageError: a file that the stages copy is missing.
        """
        used = set(self._arguments())
        inputs = {
            "form": _FORM,
            "stages": [[instruction.text for instruction in stage.instructions] for stage in self._stages],
            "defaults": [each.text for each in self._dockerfile.arguments if each.rest.partition("=")[0] in used],
            "arguments": {name: value for name, value in self._spec.arguments.items() if name in used},
            "bases": {name: str(digest) for name, digest in base_digests.items() if name in used},
            "files": dict(described_files(self._spec, self._context, self._paths())),
            "locked": None if locked is None else {path: str(digest) for path, digest in locked.items()},
        }
        return Digest.of_bytes(json.dumps(inputs, sort_keys=True, separators=(",", ":")).encode())

    def _arguments(self) -> Iterator[str]:
        for stage in self._stages:
            yield from re.findall(r"\$\{?(\w+)", stage.base)
            for instruction in stage.instructions:
                if instruction.keyword == "ARG":
                    yield from (word.partition("=")[0] for word in instruction.words())

    def _paths(self) -> Sequence[str]:
        return sorted({path for stage in self._stages for path in _expanded(stage, self._context, self._spec)})


def _expanded(stage: Stage, context: Path, spec: ImageSpec) -> Iterator[str]:
    for path in stage.context_paths():
        if path == "." or "$" in path:
            raise ImageError(
                f"stage {stage.name} of {spec.dockerfile} copies {path!r} from the context, so its inputs are unknown",
                next_step="copy the files and folders that it needs by name",
            )
        if is_pattern(path):
            yield from (found.relative_to(context).as_posix() for found in context.glob(path))
        else:
            yield path
