"""Random small programs and random edits: a changed output means a changed code version."""

import ast
import random
import types
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ml_assets.code_version.version import code_version
from tests.ml_assets.code_version.test_search import Project, project

__all__ = ["project"]

HEAD = """
REG = []
class C:
    v = 0
def keep(g):
    REG.append(g)
    return g
"""
STATEMENTS = [
    "X{i} = {n}",
    "X{i} = X{j}",
    "X{i} = [X{j}]",
    "X{i} = (X{j}, X{k})",
    "X{i} += X{j}",
    "X{i} = g{j}()",
    "X{i} = C.v",
    "def g{i}(): return X{j}",
    "def g{i}(): return g{j}() if X{k} else {n}",
    "def g{i}(): return [h() for h in REG[:1]] and {n}",
    "def g{i}(x=X{j}): return x",
    "def g{i}():\n    global X{j}\n    X{j} = {n}\n    return X{k}",
    "@keep\ndef g{i}(): return X{j}",
    "REG.append(g{i})",
    "del REG[:]",
    "C.v = X{i}",
    "setattr(C, 'v', {n})",
    "class C: v = X{i}",
    "class D(C): w = {n}",
    "lib.X{i} = {n}",
    "lib.REG.append(X{i})",
    "X{i} = lib.X{j}",
    "from lib import X{i}",
    "import plug",
    "if X{i}:\n    X{j} = {n}\nelse:\n    def g{k}(): return {n}",
    "for X{i} in range({n}):\n    C.v = X{j}",
    "X{i} = lib.REG[:]",
    "globals()['X{i}'] = {n}",
]
RESULTS = [
    "X{i}",
    "g{i}()",
    "C.v",
    "[h() for h in REG]",
    "lib.X{i}",
    "lib.REG",
    # A class that has been replaced stays until it is collected.
    "[s.w for s in C.__subclasses__()[-1:]]",
    "globals()['X{i}']",
    "getattr(lib, 'X{i}')",
]
LIB = ["X{i} = {n}", "REG.append({n})", "X{i} = X{j}", "X{i} = [{n}]"]
PLUG = ["lib.X{i} = {n}", "lib.REG.append({n})", "lib.X{i} = lib.X{j}"]
NAMES = "".join(f"X{number} = {number}\ndef g{number}(): return {number}\n" for number in range(3))

_numbers = st.integers(0, 2)


def _lines(templates: list[str], most: int) -> st.SearchStrategy[list[str]]:
    one = st.builds(
        lambda template, i, j, k, n: template.format(i=i, j=j, k=k, n=n),
        st.sampled_from(templates),
        _numbers,
        _numbers,
        _numbers,
        st.integers(0, 4),
    )
    return st.lists(one, min_size=1, max_size=most)


_programs = st.fixed_dictionaries(
    {
        "a.py": _lines(STATEMENTS, 7),
        "lib.py": _lines(LIB, 3),
        "plug.py": _lines(PLUG, 2),
        "result": _lines(RESULTS, 2),
    }
)
_TEMPLATES = {"a.py": STATEMENTS, "lib.py": LIB, "plug.py": PLUG, "result": RESULTS}


def _edited(program: dict[str, list[str]], data: st.DataObject) -> dict[str, list[str]]:
    """Return the program with one line replaced, removed, added or moved."""
    file = data.draw(st.sampled_from(["a.py", "a.py", "lib.py", "plug.py"]))
    lines = list(program[file])
    place = data.draw(st.integers(0, len(lines) - 1))
    match data.draw(st.sampled_from(["replace", "remove", "add", "move"])):
        case "replace":
            lines[place] = data.draw(_lines(_TEMPLATES[file], 1))[0]
        case "remove":
            del lines[place]
        case "add":
            lines.insert(place, data.draw(_lines(_TEMPLATES[file], 1))[0])
        case _:
            lines.insert(data.draw(st.integers(0, len(lines) - 1)), lines.pop(place))
    return {**program, file: lines}


def _files(program: dict[str, list[str]]) -> dict[str, str]:
    body = f"def f(): return {', '.join(program['result'])},"
    lib = f"REG = []\n{NAMES}"
    return {
        "a.py": "\n".join(["import lib", HEAD, NAMES, *program["a.py"], body, ""]),
        "lib.py": "\n".join([lib, *program["lib.py"], ""]),
        "plug.py": "\n".join(["import lib", *program["plug.py"], ""]),
    }


def _output(project: Project, files: dict[str, str]) -> tuple[str, str] | None:
    """Return what the program computes, and its code version; None if it fails."""
    project.write(files)
    try:
        function = project.function()
        version = code_version(function)
        return repr(_plain(function())), version
    except (AttributeError, NameError, TypeError, IndexError, KeyError, RecursionError, ImportError):
        return None


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.__name__ if isinstance(value, types.FunctionType | type) else value


@settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
@given(program=_programs, data=st.data())
def test_a_changed_output_means_a_changed_version(
    project: Project, program: dict[str, list[str]], data: st.DataObject
) -> None:
    before = _output(project, _files(program))
    assume(before is not None)
    after = _output(project, _files(_edited(program, data)))
    assume(after is not None)
    assert before is not None
    assert after is not None
    assert before[0] == after[0] or before[1] != after[1]


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(program=_programs, seed=st.integers())
def test_layout_and_comments_do_not_count(project: Project, program: dict[str, list[str]], seed: int) -> None:
    files = _files(program)
    before = _output(project, files)
    assume(before is not None)
    draw = random.Random(seed)
    again = {
        name: "\n".join(
            line + draw.choice(["", "", "\n", "  # a remark", "\n# more\n"]) if line[:1] not in ("", " ") else line
            for line in ast.unparse(ast.parse(text)).splitlines()
        )
        for name, text in files.items()
    }
    assert _output(project, again) == before
