"""Parser of the output of ``docker buildx build --progress=plain``: readable log lines, and the cause of a failure.

Its form: ``#N name`` names a vertex of the build, ``#N 0.123 text`` is a line that it wrote, ``#N CACHED``, ``#N DONE
0.4s`` and ``#N ERROR: …`` end it; other lines after ``#N`` are counters. The lines that follow the last vertex repeat
the failed instruction and its line in the Dockerfile.
"""

import re
from collections import deque
from collections.abc import Callable, Collection

__all__ = ["BuildProgress"]

_LINE = re.compile(r"#(\d+) (.*)")
_OUTPUT = re.compile(r"\d+\.\d+ ?(.*)")
_DONE = re.compile(r"DONE (\d+\.\d+)s")
_STEP = re.compile(r"\[(?:[\w/.-]+ )?(?P<stage>[\w.-]+ )?\d+/\d+\] ")
_MOUNT = re.compile(r"--mount=\S+\s+")
_SPACE = re.compile(r"\s+")
_COUNTED = re.compile(r"(pushing(?! layer)|exporting|naming|unpacking|rewriting).* done$")
_WIDTH = 160
_LAST_LINES = 20
_REMARKS = 200
_QUICK_SECONDS = 1.0
HIDDEN = "***"


class BuildProgress:
    """Reads a build's output line by line, and passes on the informative lines.

    Args:
        log: called with each informative line.
        secrets: values to replace with `HIDDEN` everywhere.
    """

    def __init__(self, log: Callable[[str], None], secrets: Collection[str] = ()) -> None:
        self._log = log
        self._secrets = sorted(secrets, key=len, reverse=True)
        self._names: dict[str, str] = {}
        self._outputs: dict[str, deque[str]] = {}
        self._failed: tuple[str, str] | None = None
        self._remarks: deque[str] = deque(maxlen=_REMARKS)

    def take(self, line: str) -> None:
        """Read one line."""
        line = self._hidden(line.rstrip("\r\n").rpartition("\r")[2])
        found = _LINE.fullmatch(line)
        if found is None:
            if line.strip():
                self._remarks.append(line)
            return
        number, text = found.groups()
        if number not in self._names:
            self._names[number] = text
            if _is_worth_a_line(text):
                self._log(_shortened(text))
            return
        self._follow(number, text)

    def _follow(self, number: str, text: str) -> None:
        name = self._names[number]
        if output := _OUTPUT.fullmatch(text):
            self._outputs.setdefault(number, deque(maxlen=_LAST_LINES)).append(output[1])
            self._log(f"  {output[1]}")
        elif text.startswith("ERROR: "):
            if self._failed is None:
                self._failed = (number, text.removeprefix("ERROR: "))
            self._log(f"{_shortened(name)}: {text}")
        elif (done := _DONE.fullmatch(text)) and _is_worth_a_line(name):
            if float(done[1]) >= _QUICK_SECONDS:
                self._log(f"{_shortened(name)}: {done[1]} s")
        elif (text == "CACHED" and _is_worth_a_line(name)) or _COUNTED.match(text):
            self._log(f"  {text}")

    @property
    def failed_step(self) -> str | None:
        """Return the failed vertex, shortened; None if none failed."""
        return _shortened(self._names[self._failed[0]]) if self._failed else None

    @property
    def is_instruction(self) -> bool:
        """Return True if the failed vertex is an instruction of the Dockerfile."""
        return bool(self._failed and _STEP.match(self._names[self._failed[0]]))

    @property
    def last_lines(self) -> list[str]:
        """Return the last lines of the failed vertex, or those outside any vertex if it wrote none."""
        written = self._outputs.get(self._failed[0], ()) if self._failed else ()
        return list(written) or list(self._remarks)[-_LAST_LINES:]

    @property
    def dockerfile_line(self) -> int | None:
        """Return the line of the Dockerfile that failed."""
        for remark in self._remarks:
            if found := re.fullmatch(r"\S+:(\d+)", remark):
                return int(found[1])
        return None

    @property
    def reason(self) -> str:
        """Return the reason that BuildKit, or the program, reports."""
        errors = [line.partition("ERROR: ")[2] for line in self._remarks if line.startswith("ERROR: ")]
        if errors:
            return errors[-1].removeprefix("failed to solve: ")
        return self._failed[1] if self._failed else (self._remarks[-1] if self._remarks else "no reason was given")

    def _hidden(self, line: str) -> str:
        for secret in self._secrets:
            line = line.replace(secret, HIDDEN)
        return line


def _is_worth_a_line(name: str) -> bool:
    return not name.startswith(("[internal]", "[auth]", "building with", "resolve image config"))


def _shortened(name: str) -> str:
    name = _SPACE.sub(" ", _MOUNT.sub("", name)).strip()
    return name if len(name) <= _WIDTH else f"{name[:_WIDTH]} …"
