"""A parser of Dockerfile stages, limited to what determines the inputs of a stage.

The parser reads comments, continued lines, here-documents, ``FROM``, ``COPY``, ``ADD``, ``ARG`` and the mounts of
``RUN``; other instructions stay text. Source: BuildKit's Dockerfile reference.
"""

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ml_assets.resources.errors import ImageError

__all__ = ["Dockerfile", "Instruction", "Stage", "is_pattern", "parse_dockerfile", "read_dockerfile"]

_HEREDOC = re.compile(r"<<-?\s*(['\"]?)([A-Za-z_][A-Za-z0-9_]*)\1")
_DIRECTIVE = re.compile(r"#\s*([a-z]+)\s*=\s*(.+?)\s*$", re.I)


@dataclass(frozen=True)
class Instruction:
    """One instruction: its keyword in capitals, its flags, and what follows them."""

    keyword: str
    flags: tuple[str, ...]
    rest: str
    body: str = ""
    """Here-documents."""

    @property
    def text(self) -> str:
        """Return the instruction on one line, however it was written; its here-documents follow below."""
        return "\n".join(filter(None, (" ".join((self.keyword, *self.flags, self.rest)), self.body)))

    def mounts(self) -> Iterator[dict[str, str]]:
        """Return the options of each ``--mount``."""
        for flag in self.flags:
            if flag.startswith("--mount="):
                parts = (part.partition("=") for part in flag.removeprefix("--mount=").split(","))
                yield {key: value for key, _, value in parts}

    def words(self) -> list[str]:
        """Return the arguments after the flags."""
        if self.rest.startswith("["):
            return [str(word) for word in json.loads(self.rest)]
        return shlex.split(self.rest)


@dataclass(frozen=True)
class Stage:
    """One stage: its name (its number if it has none), and its instructions including ``FROM``."""

    name: str
    base: str
    """The source named after ``FROM``: a stage, or an image with its arguments unexpanded."""
    instructions: tuple[Instruction, ...]

    def draws_on(self) -> set[str]:
        """Return the names of the stages, images and contexts that the stage takes content from."""
        names = {self.base}
        for instruction in self.instructions[1:]:
            names |= {flag.removeprefix("--from=") for flag in instruction.flags if flag.startswith("--from=")}
            names |= {mount["from"] for mount in instruction.mounts() if "from" in mount}
        return names

    def context_paths(self) -> set[str]:
        """Return the paths and patterns that the stage takes from the build context."""
        paths: set[str] = set()
        for instruction in self.instructions[1:]:
            copies = instruction.keyword in ("COPY", "ADD")
            if copies and not any(flag.startswith("--from=") for flag in instruction.flags):
                paths |= {word for word in instruction.words()[:-1] if not word.startswith("<<") and "://" not in word}
            binds = (mount for mount in instruction.mounts() if mount.get("type", "bind") == "bind")
            paths |= {mount.get("source", mount.get("src", ".")) for mount in binds if "from" not in mount}
        return {path.strip("/").removeprefix("./") or "." for path in paths}


@dataclass(frozen=True)
class Dockerfile:
    """A whole Dockerfile: the arguments before the first stage, and the stages in order."""

    arguments: tuple[Instruction, ...]
    stages: tuple[Stage, ...]

    def needed_for(self, name: str, without: Sequence[str] = ()) -> tuple[Stage, ...] | None:
        """Return the stage and every stage that it uses, in order; None if there is no such stage.

        Args:
            name: name of a stage.
            without: stages to omit, together with the stages that only they use.
        """
        by_name = {stage.name.lower(): stage for stage in self.stages}
        by_name |= {str(number): stage for number, stage in enumerate(self.stages)}
        needed: set[str] = set()
        waiting = [name.lower()]
        while waiting:
            stage = by_name.get(waiting.pop())
            if stage is not None and stage.name not in needed and stage.name not in without:
                needed.add(stage.name)
                waiting += [other.lower() for other in stage.draws_on()]
        return tuple(stage for stage in self.stages if stage.name in needed) or None


def is_pattern(path: str) -> bool:
    """Return True if a context path is not one literal file or folder: a wildcard, a variable, or the whole context."""
    return path == "." or bool(re.search(r"[*?\[$]", path))


def read_dockerfile(file: Path) -> Dockerfile:
    """Read a Dockerfile from a file.

    Raises:
        ImageError: it is missing, or cannot be read.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"the Dockerfile {file} cannot be read: {error}", next_step="restore the file") from error
    return parse_dockerfile(text, file.name)


def parse_dockerfile(text: str, name: str) -> Dockerfile:
    """Read a Dockerfile.

    Args:
        text: its content.
        name: its path, for errors.

    Raises:
        ImageError: an instruction cannot be read, or there is no stage.
    """
    arguments: list[Instruction] = []
    stages: list[Stage] = []
    try:
        for instruction in _instructions(text):
            if instruction.keyword == "FROM":
                words = instruction.words()
                named = len(words) == 3 and words[1].upper() == "AS"
                stages.append(Stage(words[2] if named else str(len(stages)), words[0], (instruction,)))
            elif stages:
                last = stages[-1]
                stages[-1] = Stage(last.name, last.base, (*last.instructions, instruction))
            else:
                arguments.append(instruction)
        if not stages:
            raise ValueError("it has no FROM")
        for stage in stages:
            stage.draws_on(), stage.context_paths()
    except (ValueError, IndexError) as error:
        raise ImageError(f"{name} cannot be read: {error}", next_step="correct the Dockerfile") from error
    return Dockerfile(tuple(arguments), tuple(stages))


def _instructions(text: str) -> Iterator[Instruction]:
    lines = iter(text.lstrip("\ufeff").splitlines())
    escape = _escape(text)
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        keyword, flags, rest = _split(_joined(line, lines, escape))
        documents = _HEREDOC.findall(rest) if keyword in ("RUN", "COPY", "ADD") else ()
        body = [text for _, end in documents for text in _document(end, lines)]
        yield Instruction(keyword, flags, rest, "\n".join(body))


def _document(end: str, lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield line
        if line.strip() == end:
            return
    raise ValueError(f"the here-document {end} is not terminated")


def _joined(line: str, lines: Iterator[str], escape: str) -> str:
    """Return the line joined with its continuation lines; blank lines and comments in between do not end it."""
    parts = [line.strip()]
    while parts[-1].endswith(escape):
        parts[-1] = parts[-1][:-1].rstrip()
        following = (each.strip() for each in lines)
        parts.append(next((each for each in following if each and not each.startswith("#")), ""))
    return " ".join(filter(None, parts))


def _escape(text: str) -> str:
    """Return the line continuation character; a directive at the top may set it to a backtick."""
    for line in text.lstrip("\ufeff").splitlines():
        directive = _DIRECTIVE.fullmatch(line.strip())
        if directive is None:
            break
        if directive[1].lower() == "escape":
            return directive[2]
    return "\\"


def _split(line: str) -> tuple[str, tuple[str, ...], str]:
    keyword, _, rest = line.partition(" ")
    rest = rest.strip()
    flags = []
    while rest.startswith("--"):
        flag, _, rest = rest.partition(" ")
        flags.append(flag)
        rest = rest.strip()
    return keyword.upper(), tuple(flags), rest
