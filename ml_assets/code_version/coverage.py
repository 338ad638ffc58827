"""The code and files that a code version covers, in the form that a running step can compare with what it uses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Coverage", "CoveredModule"]


@dataclass(frozen=True)
class CoveredModule:
    """The part of one first-party file that a code version covers.

    Attributes:
        name: dotted name of the module.
        symbols: names of the file's top level whose code counts; None if the whole file counts.
        lines: first and last line of each covered statement of the top level, decorators included, when the file was
            read. They identify code without a name of its own, such as a lambda in a table.
    """

    name: str
    symbols: frozenset[str] | None
    lines: tuple[tuple[int, int], ...] = ()

    def covers(self, qualified_name: str, line: int) -> bool:
        """Return True if a code object counts.

        The code of the module itself always counts: the code version decides which of its statements matter.

        Args:
            qualified_name: ``co_qualname`` of the code object.
            line: ``co_firstlineno`` of the code object.
        """
        if self.symbols is None or qualified_name == "<module>":
            return True
        return qualified_name.partition(".")[0] in self.symbols or any(
            first <= line <= last for first, last in self.lines
        )


@dataclass(frozen=True)
class Coverage:
    """The code and files that a code version covers.

    Attributes:
        modules: covered modules by the absolute path of their file.
        files: absolute paths of covered files that are not Python modules: data files and native libraries.
    """

    modules: Mapping[Path, CoveredModule] = field(default_factory=dict)
    files: frozenset[Path] = frozenset()

    def covers_code(self, file: Path, qualified_name: str, line: int) -> bool:
        """Return True if a code object of a file counts; arguments as for `CoveredModule.covers`."""
        module = self.modules.get(file.absolute())
        return module is not None and module.covers(qualified_name, line)

    def covers_file(self, file: Path) -> bool:
        """Return True if the content of a data file or native library counts."""
        return file.absolute() in self.files
