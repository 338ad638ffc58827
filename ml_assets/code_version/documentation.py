"""Docstrings that code uses as data."""

import sys
from collections.abc import Iterator, Mapping

from ml_assets.code_version.effects import ORCHESTRATION
from ml_assets.code_version.located import LocatedModule
from ml_assets.code_version.references import Meaning, References, Symbol
from ml_assets.code_version.scopes import NameReference
from ml_assets.code_version.statements import Statement

__all__ = ["Documentation"]

_NEUTRAL = {
    *sys.stdlib_module_names,
    *ORCHESTRATION,
    "attr",
    "attrs",
    "dask",
    "joblib",
    "lightgbm",
    "numba",
    "numpy",
    "pandas",
    "pandera",
    "polars",
    "pyarrow",
    "pydantic",
    "pytest",
    "ray",
    "scipy",
    "sklearn",
    "tenacity",
    "torch",
    "tqdm",
    "xgboost",
}
"""Libraries that do not read docstrings."""


class Documentation:
    """Decides which docstrings count.

    Those count that a library may read: of functions that it decorates or is given, and of classes that inherit from
    it. If reached code reads docstrings itself, all of them count.

    Args:
        references: finds the meaning of names.

    Attributes:
        counts: True if all docstrings count.
    """

    def __init__(self, references: References) -> None:
        self._references = references
        self.counts = False
        self._texts: dict[Symbol, list[str]] = {}
        self._given: set[Symbol] = set()

    def note(self, located: LocatedModule, symbol: Symbol, statement: Statement) -> None:
        """Note the docstrings in a statement, and what the statement gives to libraries."""
        reading = statement.reading
        self._texts.setdefault(symbol, []).extend(reading.docs)
        subjects = [decorator.subject for decorator in statement.decorators]
        if any(self._reads(located, subject) for subject in (*subjects, *reading.documented) if subject):
            self._given.add(symbol)
        for called, argument in reading.handed:
            if self._reads(located, called):
                targets = self._references.targets(located, argument)
                self._given |= {target.symbol for target in targets if isinstance(target, Meaning)}
        if "__doc__" in reading.names:
            self._texts[symbol].append(self._references.module(located).documentation or "")

    def _reads(self, located: LocatedModule, subject: NameReference) -> bool:
        """Return True if a name belongs to a library that may read docstrings."""
        for target in self._references.targets(located, subject):
            if isinstance(target, str):
                names = [target]
            else:
                # A method of an object that a library made.
                parts = self._references.statements(target) if target.attributes else []
                made = [part for part in parts if not (part.is_function or part.is_class)]
                references = [each for part in made for each in part.reading.references]
                found = [each for one in references for each in self._references.targets(target.located, one)]
                names = [each for each in found if isinstance(each, str)]
            if any(name.partition(".")[0] not in _NEUTRAL for name in names):
                return True
        return False

    def texts(self, found: Mapping[Symbol, bytes]) -> Iterator[tuple[Symbol, str]]:
        """Return the docstrings that count, by symbol."""
        for symbol in sorted(found):
            texts = self._texts.get(symbol)
            if texts and (self.counts or symbol in self._given):
                yield symbol, repr(texts)
