"""The functions of the project that run in a block are seen, and nothing about them changes."""

import asyncio
import inspect
import pickle
import sys
import textwrap
import threading
from collections.abc import Callable
from typing import Any

import pytest

from ml_assets.code_version import entered
from ml_assets.code_version.entered import EnteredCode, entering
from ml_assets.code_version.opened import OpenedFiles, opening
from ml_assets.code_version.project_files import ProjectFiles
from tests.ml_assets.code_version.conftest import WriteProject

SOURCE = """
import functools

def plain(): return 1
def unused(): return 2
def recursive(n): return n and recursive(n - 1)
def generated(): yield plain()
async def awaited(): return plain()
def outer():
    def inner(): return 1
    return inner
made = outer()
TABLE = {"key": lambda: 1}
class Counted:
    def method(self): return 1
    @property
    def prop(self): return 1
    @staticmethod
    def static(): return 1
    @functools.cached_property
    def cached(self): return 1
def decorated(function):
    @functools.wraps(function)
    def wrapper(): return function()
    return wrapper
@decorated
def wrapped(): return 1
@functools.singledispatch
def dispatched(value): return 0
@dispatched.register(int)
def _(value): return 1
part = functools.partial(recursive, 2)
def comprehended(): return [plain() for _ in range(3)]
"""

CASES: dict[str, tuple[Callable[[Any], object], set[str]]] = {
    "nothing": (lambda m: None, set()),
    "function": (lambda m: m.plain(), {"plain"}),
    "recursion": (lambda m: m.recursive(20), {"recursive"}),
    "generator": (lambda m: list(m.generated()), {"generated", "plain"}),
    "generator that is not begun": (lambda m: m.generated(), set()),
    "coroutine": (lambda m: asyncio.run(m.awaited()), {"awaited", "plain"}),
    "nested function": (lambda m: m.outer()(), {"outer", "outer.<locals>.inner"}),
    "closure from before": (lambda m: m.made(), {"outer.<locals>.inner"}),
    "lambda in a table": (lambda m: m.TABLE["key"](), {"<lambda>"}),
    "method": (lambda m: m.Counted().method(), {"Counted.method"}),
    "property": (lambda m: m.Counted().prop, {"Counted.prop"}),
    "static method": (lambda m: m.Counted.static(), {"Counted.static"}),
    "cached property": (lambda m: m.Counted().cached, {"Counted.cached"}),
    "wrapped function": (lambda m: m.wrapped(), {"decorated.<locals>.wrapper", "wrapped"}),
    "dispatched function": (lambda m: m.dispatched(1), {"_"}),
    "partial": (lambda m: m.part(), {"recursive"}),
    "function by name": (lambda m: eval("plain()", vars(m)), {"plain"}),
    "loop in a function": (lambda m: m.comprehended(), {"comprehended", "plain"}),
    "callback of a library": (lambda m: sorted([2, 1], key=lambda _: m.plain()), {"plain"}),
}


def names(found: EnteredCode) -> set[str]:
    own = (code.co_qualname for code in found.found.values() if "shop" in code.co_filename)
    return set(own) - {"comprehended.<locals>.<listcomp>"}


def observed(module: Any, act: Callable[[Any], object], *, is_covered: bool = False) -> set[str]:
    found = entering(ProjectFiles(module.plain), lambda code: is_covered)
    with found.observing():
        act(module)
    assert found.unseen == []
    return names(found)


@pytest.mark.parametrize("before", [0, 3, 20], ids=["new", "called before", "optimized before"])
def test_exactly_the_functions_that_run_are_seen(write_project: WriteProject, before: int) -> None:
    module = write_project(**{"shop/asset.py": SOURCE})
    for _ in range(before):
        for act, _names in CASES.values():
            act(module)
    seen = {case: observed(module, act) for case, (act, _) in CASES.items()}
    assert seen == {case: expected for case, (_, expected) in CASES.items()}


def test_all_threads_are_seen(write_project: WriteProject) -> None:
    module = write_project(**{"shop/asset.py": SOURCE})

    def act(module: Any) -> None:
        threads = [threading.Thread(target=target) for target in (module.plain, module.made)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert observed(module, act) == {"plain", "outer.<locals>.inner"}


def test_a_module_that_is_imported_in_the_block_is_seen(write_project: WriteProject) -> None:
    asset = "def act():\n    from shop import late\n    return late.f()\n"
    late = "def f(): return 1\nclass C:\n    pass\nfor _ in range(9): f()\n"
    module = write_project(**{"shop/asset.py": asset, "shop/late.py": late})
    found = entering(ProjectFiles(module.act), lambda code: False)
    with opening(OpenedFiles((), found.loaded)), found.observing():
        module.act()
    assert names(found) == {"act", "<module>", "f", "C"}


def test_what_ran_before_or_after_the_block_does_not_count(write_project: WriteProject) -> None:
    module = write_project(**{"shop/asset.py": SOURCE})
    module.plain()
    found = entering(ProjectFiles(module.plain), lambda code: False)
    with found.observing():
        module.made()
    module.unused()
    assert names(found) == {"outer.<locals>.inner"}


def test_functions_stay_as_they_were(write_project: WriteProject) -> None:
    module = write_project(**{"shop/asset.py": SOURCE})
    running = module.generated()
    for _ in range(20):
        module.plain(), module.recursive(1), module.made()
    before = {name: (getattr(module, name), getattr(module, name).__code__) for name in ("plain", "recursive", "made")}
    hashes = {name: hash(code) for name, (_, code) in before.items()}
    assert observed(module, lambda m: next(running)) >= {"plain"}
    for name, (function, code) in before.items():
        now = getattr(module, name)
        assert now is function
        assert (now.__code__, hash(now.__code__)) == (code, hashes[name])
        assert now.__code__.co_code == code.co_code
    assert pickle.loads(pickle.dumps(module.plain)) is module.plain
    assert inspect.getsource(module.recursive) == textwrap.dedent("def recursive(n): return n and recursive(n - 1)\n")
    assert inspect.getsource(module.made).strip() == "def inner(): return 1"


def test_objects_of_a_module_are_not_asked(write_project: WriteProject) -> None:
    source = (
        "import importlib.util, sys\n"
        "class Sly:\n    __class__ = property(lambda self: 1 / 0)\n    __dict__ = property(lambda self: 1 / 0)\n"
        "sly = [Sly()]\n"
        "class Pretended:\n    __slots__ = ()\n    __class__ = type(sys)\n"
        "sys.modules['shop.pretended'] = Pretended()\n"
        "spec = importlib.util.find_spec('shop.late')\n"
        "spec.loader = importlib.util.LazyLoader(spec.loader)\n"
        "late = sys.modules['shop.late'] = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(late)\n"
        "def plain(): return 1\n"
    )
    module = write_project(**{"shop/asset.py": source, "shop/late.py": "raise RuntimeError\n"})
    assert observed(module, lambda m: m.plain()) == {"plain"}


def test_tracing_and_the_observation_do_not_disturb_each_other(write_project: WriteProject) -> None:
    module = write_project(**{"shop/asset.py": SOURCE})
    traced: list[str] = []

    def act(module: Any) -> None:
        before = sys.gettrace()
        sys.settrace(lambda frame, event, argument: traced.append(frame.f_code.co_name))
        try:
            module.plain()
        finally:
            sys.settrace(before)

    assert observed(module, act) == {"plain"}
    assert "plain" in traced


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="Python 3.12 and later report functions by events")
def test_an_interpreter_without_the_counter_says_that_nothing_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entered, "_WARMUP_OFFSET", 56)  # The number of arguments stands there.
    found = entering(ProjectFiles(observed), lambda code: False)
    with found.observing():
        textwrap.dedent("")
    assert found.found == {}
    assert found.unseen == ["this interpreter does not report which functions run"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.11 has no tools that report functions")
def test_tools_that_hold_all_places_leave_nothing_observed() -> None:
    monitoring = sys.monitoring  # type: ignore[attr-defined,unused-ignore] # since Python 3.12
    held = [each for each in (3, 4) if monitoring.get_tool(each) is None]
    for each in held:
        monitoring.use_tool_id(each, "another")
    try:
        found = entering(ProjectFiles(observed), lambda code: False)
        with found.observing():
            textwrap.dedent("")
    finally:
        for each in held:
            monitoring.free_tool_id(each)
    assert found.found == {}
    assert len(found.unseen) == 1
