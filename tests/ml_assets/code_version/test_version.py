import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_assets.code_version.version import code_version, reached
from ml_assets.flight_delays.training import predict
from ml_assets.resources.errors import DefinitionError

ROOT = Path(__file__).parents[3]

PIPELINE = {
    "__init__.py": "from pipeline.shared import scale\n",
    "assets.py": '''
        """Assets."""
        import numpy as np
        from dagster import asset
        from typing import TYPE_CHECKING
        import pipeline.numbers as numbers
        from pipeline import scale
        from . import lazy, shared
        if TYPE_CHECKING:
            from pipeline.hints import Hint

        LIMITS = {"low": 1}
        LIMITS["high"] = 2

        class Config(shared.Base):
            size: int = shared.SIZE

        @asset
        def plain(flights):
            return flights

        @asset(pool="cpu")
        def flights():
            """Flights."""
            def part(x, config: "Config" = None) -> "Hint":
                return f"{x!r:>{numbers.WIDTH}} {x=}"  # a comment
            return part(scale(LIMITS["high"]))

        def inside(context):
            from pipeline.deep.inner import work as job
            return job(np.sum([1]))

        def dynamic(name):
            return getattr(lazy, name)

        def cyclic(n):
            return shared.even(n)
    ''',
    "shared.py": """
        SIZE = 3
        class Base: ...
        def scale(x): return x * SIZE
        def even(n): return n == 0 or odd(n - 1)
        def odd(n): return n != 0 and even(n - 1)
        def unused(): return 1
    """,
    "numbers.py": "WIDTH = 1_000\nDEPTH = 0x10\n",
    "lazy.py": "def one(): return 1\ndef two(): return 2\n",
    "hints.py": "class Hint: ...\n",
    "deep/__init__.py": "",
    "deep/inner.py": """
        from ..numbers import *
        def work(x): return x + DEPTH
    """,
}
FUNCTIONS = ["plain", "flights", "inside", "dynamic", "cyclic"]


class Package:
    """A package on disk; its functions are compiled at their place but stay unimported."""

    def __init__(self, folder: Path, files: dict[str, str] = PIPELINE) -> None:
        self.folder = folder / "pipeline"
        for name, text in files.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = text.splitlines()
        indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
        file.write_text("\n".join(line[indent:] for line in lines) + "\n")
        importlib.invalidate_caches()

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.folder / name).read_text()
        assert old in text
        (self.folder / name).write_text(text.replace(old, new))

    def load(self, module: str = "assets") -> dict[str, Any]:
        for name in [name for name in sys.modules if name.partition(".")[0] == "pipeline"]:
            del sys.modules[name]
        importlib.invalidate_caches()
        return vars(importlib.import_module(f"pipeline.{module}"))

    def versions(self) -> dict[str, str]:
        found = self.load()
        return {name: code_version(_plain(found[name])) for name in FUNCTIONS}


def _plain(function: Any) -> Callable[..., Any]:
    plain: Callable[..., Any] = function.op.compute_fn.decorated_fn if hasattr(function, "op") else function
    return plain


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Package]:
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Package(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "pipeline"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("assets.py", "return flights", "return [flights]", {"plain"}),
        ("assets.py", "!r:>", "!s:>", {"flights"}),
        ("assets.py", 'LIMITS["high"] = 2', 'LIMITS["high"] = 4', {"flights"}),
        ("assets.py", "import numpy as np", "import pandas as np", {"inside"}),
        ("shared.py", "SIZE = 3", "SIZE = 4", {"flights"}),
        ("shared.py", "class Base: ...", "class Base:\n    rate: float = 1.0", {"flights"}),
        ("shared.py", "n != 0 and", "n > 0 and", {"cyclic"}),
        ("numbers.py", "DEPTH = 0x10", "DEPTH = 0x11", {"inside"}),
        ("numbers.py", "WIDTH = 1_000", "WIDTH = 1_001", {"flights"}),
        ("deep/inner.py", "x + DEPTH", "x - DEPTH", {"inside"}),
        ("lazy.py", "return 2", "return 3", {"dynamic"}),
        ("__init__.py", "shared import scale", "shared import unused as scale", {"flights"}),
        ("deep/__init__.py", "\n", "import os\nos.umask(0o022)\n", {"inside"}),
    ],
)
def test_an_edit_changes_exactly_the_code_versions_that_reach_it(
    package: Package, file: str, old: str, new: str, changed: set[str]
) -> None:
    before = package.versions()
    package.edit(file, old, new)
    after = package.versions()
    assert {name for name in FUNCTIONS if before[name] != after[name]} == changed


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("shared.py", "def unused(): return 1", "def unused(): return 2"),
        ("shared.py", "def unused(): return 1", "def added(): return 2"),
        ("assets.py", "  # a comment", ""),
        ("assets.py", '"""Flights."""', '"""All flights."""'),
        ("assets.py", '"""Assets."""', "\n\n# more\n"),
        ("assets.py", "return flights", "return (\n        flights   # same\n    )"),
        ("assets.py", '@asset(pool="cpu")', '@asset(pool="gpu", description="elsewhere")'),
        ("assets.py", "\n", "\r\n"),
        ("hints.py", "class Hint: ...", "class Hint:\n    x: int"),
        ("numbers.py", "1_000", "1000"),
        (
            "numbers.py",
            "WIDTH = 1_000\nDEPTH = 0x10",
            'DEPTH = 16\nif __name__ == "__main__":\n    print()\nWIDTH = 1000',
        ),
    ],
)
def test_what_cannot_change_a_result_does_not_count(package: Package, file: str, old: str, new: str) -> None:
    before = package.versions()
    package.edit(file, old, new)
    assert package.versions() == before


def test_a_parameter_named_like_an_asset_does_not_reach_it(package: Package) -> None:
    assert reached(_plain(package.load()["plain"])) == {"pipeline.assets:plain"}


def test_reached_names_the_symbols_that_count(package: Package) -> None:
    assert reached(_plain(package.load()["flights"])) == {
        "pipeline.assets:Config",
        "pipeline.assets:LIMITS",
        "pipeline.assets:flights",
        "pipeline.numbers:WIDTH",
        "pipeline.shared:Base",
        "pipeline.shared:SIZE",
        "pipeline.shared:scale",
    }


def test_an_edit_is_seen_without_importing_again(package: Package) -> None:
    inside = package.load()["inside"]
    before = code_version(inside)
    assert "pipeline.deep.inner" not in sys.modules
    package.edit("deep/inner.py", "x + DEPTH", "x - DEPTH + 1")
    assert code_version(inside) != before


def _elsewhere(folder: Path, python: str = sys.executable) -> str:
    script = (
        "import sys, types; sys.modules['dagster'] = types.ModuleType('dagster')\n"
        "sys.modules['numpy'] = types.ModuleType('numpy')\n"
        "sys.modules['dagster'].asset = lambda f=None, **k: f or (lambda g: g)\n"
        "from pipeline import assets\nfrom ml_assets.code_version.version import code_version\n"
        f"print([code_version(getattr(assets, name)) for name in {FUNCTIONS}])"
    )
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [python, "-c", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=480, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_moved_checkout_has_the_same_code_versions(tmp_path: Path, package: Package) -> None:
    moved = tmp_path / "moved" / "site-packages"
    shutil.copytree(package.folder, moved / "pipeline")
    assert _elsewhere(tmp_path) == _elsewhere(moved) == f"{list(package.versions().values())}\n"


def _other_pythons() -> list[str]:
    names = [f"python3.{minor}" for minor in (11, 12, 13) if minor != sys.version_info.minor]
    found = [shutil.which(name) for name in names]
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found += [str(path) for name in names for path in sorted(versions.glob(f"{name[6:]}.*/bin/{name}"))]
    return [path for path in found if path and subprocess.run([path, "-c", ""], check=False).returncode == 0]


def test_every_supported_python_computes_the_same(tmp_path: Path, package: Package) -> None:
    others = _other_pythons()
    if not others:
        pytest.skip("no other Python from 3.11 to 3.13 is installed")
    package.write(
        "shared.py",
        r"""
        import re
        SIZE = 1e400, -0.0, 10**20, 0xFFFFFFFFFFFFFFFFFF, b"\xff", "é\N{BULLET}\ud800", 1j, ..., None
        class Base: "only a docstring"
        def scale(x, /, y=1, *z, w: "list[int]" = None, **k):
            global SIZE
            a = "a" f"b{x}" "c" f"{x:{y}.{w}}{{}}" rf"\d{x!a:>10}" f"{x = !r:^{y}}" f'{x:%H\n%M}' f""
            with open(f"{x:}") as f, open(f"{x}{''}") as g:
                pass
            match a:
                case {"k": [1, *rest], **other} | [other, rest] if (n := len(rest)): return lambda q=n: q + x
                case Base(u=None) as b: return b
            try:
                return {**k, **{i: j for i, j in z if (last := i)}}, last, [*z], a[1:2, ..., ::3]
            except* ValueError as e:
                raise
        async def even(n) -> "odd":
            async for i in n:
                yield await i
        def odd(n): return re.sub("\d", "", n)
        """.replace('\\d"', '\\\\d"'),
    )
    here = _elsewhere(tmp_path)
    assert {other: _elsewhere(tmp_path, other) for other in others} == dict.fromkeys(others, here)


def test_functions_made_in_a_loop_differ_by_what_they_captured(package: Package) -> None:
    package.write(
        "made.py",
        """
        from dataclasses import dataclass
        @dataclass
        class Limits:
            low: int
        def make(carrier, key=None, parse=None, /):
            def flights(x=carrier): return carrier, key, parse
            return flights
        def first(x): return x
        def second(x): return x + 1
        def same(x): return x
        made = [make("UA"), make("AA"), make("UA", ("x", 1.5)), make("UA", Limits(1)), make("UA", Limits(2)),
                make("UA", None, first), make("UA", None, second)]
        again = make("UA")
        """,
    )
    found = package.load("made")
    versions = [code_version(function) for function in found["made"]]
    assert len(set(versions)) == len(versions)
    assert code_version(found["again"]) == versions[0]
    assert "pipeline.made:second" in reached(found["made"][-1])
    assert "pipeline.made:Limits" in reached(found["made"][3])


def test_a_wrapper_counts_whether_or_not_it_says_what_it_wraps(package: Package) -> None:
    package.write(
        "wrapped.py",
        """
        import functools
        def telling(f):
            @functools.wraps(f)
            def inner(*a): return f(*a)
            return inner
        def silent(f):
            def inner(*a): return f(*a)
            return inner
        @telling
        def decorated(): return 1
        def raw(): return 2
        by_hand = telling(raw)
        hidden = silent(raw)
        """,
    )
    found = package.load("wrapped")
    assert reached(found["decorated"]) == {"pipeline.wrapped:decorated", "pipeline.wrapped:telling"}
    assert reached(found["by_hand"]) == {"pipeline.wrapped:raw", "pipeline.wrapped:telling"}
    assert reached(found["hidden"]) == {"pipeline.wrapped:raw", "pipeline.wrapped:silent"}


def test_a_lazy_package_reaches_the_modules_that_it_mentions(package: Package) -> None:
    package.write(
        "__init__.py",
        """
        import importlib
        _WHERE = {"scale": "pipeline.shared"}
        def __getattr__(name):
            if name not in _WHERE: raise AttributeError(name)
            return getattr(importlib.import_module(_WHERE[name]), name)
        """,
    )
    before = package.versions()
    package.edit("shared.py", "x * SIZE", "x * SIZE * 2")
    after = package.versions()
    assert {name for name in FUNCTIONS if before[name] != after[name]} == {"flights"}


def test_a_module_imported_by_a_string_counts_whole(package: Package) -> None:
    package.write("text.py", "import importlib\ndef f(): return importlib.import_module('pipeline.hints').Hint\n")
    assert reached(package.load("text")["f"]) >= {"pipeline.hints:*", "pipeline.hints:Hint"}


def test_a_module_imported_for_its_effect_counts_whole(package: Package) -> None:
    package.write("effect.py", "def f():\n    import pipeline.hints\n    from pipeline import lazy\n    return 1\n")
    assert {"pipeline.lazy:*"} <= reached(package.load("effect")["f"])


def test_names_of_inner_scopes_hide_those_of_the_module(package: Package) -> None:
    package.write(
        "scopes.py",
        """
        a = b = c = d = e = f = g = h = 1
        def hides(a, *b, **c):
            d = [e for e in a]
            def inner():
                for f in d:
                    (g := f)
                return g
            try: pass
            except Exception as h: print(h)
            return inner
        def sees():
            class Inner:
                a = 1
                def method(self): return a
            [b for x in (1,) if (c := x)]
            def nested(e=d):
                global f
                f = 2
            return lambda g=h: e
        """,
    )
    found = package.load("scopes")
    assert reached(found["hides"]) == {"pipeline.scopes:hides"}
    assert reached(found["sees"]) == {f"pipeline.scopes:{name}" for name in ["sees", "a", "b", "d", "e", "f", "h"]}


def _calls(functions: list[list[int]], constants: list[int]) -> dict[str, str]:
    """Return a module per function; each calls some others, imported at the top, inside the function, or as modules."""
    files = {"__init__.py": ""}
    for number, called in enumerate(functions):
        top = "".join(f"from pipeline.m{other} import f as f{other}\n" for other in called if other % 3 == 0)
        top += "".join(f"import pipeline.m{other}\n" for other in called if other % 3 == 1)
        body = "".join(f"    from . import m{other}\n" for other in called if other % 3 == 2)
        forms = ["f{}()", "pipeline.m{}.f()", "m{}.f()"]
        calls = "".join(f" + {forms[other % 3].format(other)}" for other in called)
        files[f"m{number}.py"] = f"{top}def f():\n{body}    return {constants[number]}{calls}\n"
    return files


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    functions=st.integers(2, 6).flatmap(
        lambda size: st.lists(st.lists(st.integers(0, size - 1), max_size=3, unique=True), min_size=size, max_size=size)
    ),
    data=st.data(),
)
def test_in_any_module_graph_exactly_what_reaches_an_edit_changes(
    package: Package, functions: list[list[int]], data: st.DataObject
) -> None:
    edited = data.draw(st.integers(0, len(functions) - 1))

    def versions(constants: list[int]) -> list[str]:
        for name, text in _calls(functions, constants).items():
            package.write(name, text)
        return [code_version(_compiled(package.folder / f"m{number}.py")) for number in range(len(functions))]

    before = versions([0] * len(functions))
    after = versions([100 if number == edited else 0 for number in range(len(functions))])
    reaching = {edited}
    while more := {n for n, called in enumerate(functions) if reaching & set(called)} - reaching:
        reaching |= more
    assert {n for n in range(len(functions)) if before[n] != after[n]} == reaching


def _compiled(file: Path) -> Callable[..., Any]:
    """Return the function in a file of a cyclic graph, which cannot be imported."""
    names: dict[str, Any] = {"__name__": f"pipeline.{file.stem}"}
    body = file.read_text()[file.read_text().index("def f()") :]
    exec(compile(body, str(file), "exec"), names)
    function: Callable[..., Any] = names["f"]
    return function


@pytest.mark.parametrize("make", ["lambda x: x", "functools.partial(int)", "len", "A()", "A().m", "made"])
def test_a_callable_without_its_own_source_is_refused(package: Package, make: str) -> None:
    package.write(
        "odd.py",
        f"import functools\nexec('def made(): pass')\nclass A:\n    def m(self): ...\n    def __call__(self): ...\n"
        f"it = {make}\n",
    )
    with pytest.raises(DefinitionError, match="pass code_version="):
        code_version(package.load("odd")["it"])


def test_a_reached_file_that_is_not_python_is_named(package: Package) -> None:
    package.write("deep/inner.py", "def work(:\n")
    with pytest.raises(DefinitionError, match=r"inner\.py"):
        code_version(package.load()["inside"])


def test_installed_packages_and_the_plugin_count_by_name_only(package: Package) -> None:
    package.write(
        "uses.py", "import pytest\nfrom ml_assets import code_version as c\ndef f(): return pytest.raises, c.f\n"
    )
    assert reached(package.load("uses")["f"]) == {"pipeline.uses:f"}


@pytest.mark.parametrize("name", ["assets", "ml", "resources"])
def test_modules_of_an_author_named_like_parts_of_the_plugin_count(package: Package, name: str) -> None:
    (package.folder.parent / f"{name}.py").write_text("LIMIT = 1\n")
    package.write("uses.py", f"import {name}\ndef f(): return {name}.LIMIT\n")
    function = package.load("uses")["f"]
    del sys.modules[name]
    assert reached(function) == {"pipeline.uses:f", f"{name}:LIMIT"}


def test_of_the_plugin_the_package_that_the_function_stands_in_counts() -> None:
    found = reached(predict)
    assert "ml_assets.flight_delays.training:unseen" in found
    assert "ml_assets.flight_delays.features:IDENTITY" in found
    assert not [symbol for symbol in found if not symbol.startswith("ml_assets.flight_delays.")]


def test_code_that_is_nested_too_deeply_is_refused(package: Package) -> None:
    package.write("deep.py", "def f(): return " + "+".join(["1"] * 3000) + "\n")
    with pytest.raises(DefinitionError, match=r"deep\.py|nested too deeply"):
        code_version(_compiled_shallow(package.folder / "deep.py"))


def _compiled_shallow(file: Path) -> Callable[..., Any]:
    names: dict[str, Any] = {"__name__": f"pipeline.{file.stem}"}
    exec(compile("def f(): ...", str(file), "exec"), names)
    function: Callable[..., Any] = names["f"]
    return function
