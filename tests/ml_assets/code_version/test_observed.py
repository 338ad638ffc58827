"""What a function uses beyond the code that its code version covers is named, and nothing else."""

import builtins
import importlib
import threading
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from ml_assets.code_version import observed
from ml_assets.code_version.observed import ObservedCall
from ml_assets.code_version.version import code_of
from ml_assets.resources.provenance import Observed
from tests.ml_assets.code_version.conftest import WriteProject

HEAD = "import os, sys\nfrom pathlib import Path\ndef here(*names): return Path(os.environ['SHOP'], *names)\n"
LATE = "LIMIT = 1\ndef f(): return LIMIT\ndef g(): return 2\n"

CASES: dict[str, tuple[str, set[str]]] = {
    "function in another module": ("from shop.parts import f\ndef asset():\n    return f()\n", set()),
    "nothing": ("def asset():\n    return 1\n", set()),
    "nested function": ("def asset():\n    def inner(): return 1\n    return inner()\n", set()),
    "query": ("def asset():\n    return here('shop', 'q.sql').read_text()\n", {"shop/q.sql"}),
    "file around the code": ("def asset():\n    return here('conf', 'c.yaml').read_text()\n", {"conf/c.yaml"}),
    "own output": (
        "def asset():\n    out = here('shop', 'out')\n    out.write_text('x')\n    return out.read_text()\n",
        set(),
    ),
    "output of a program": (
        "import os\ndef asset():\n    out = here('shop', 'out')\n    os.system('sleep 0.01; echo x >' + str(out))\n"
        "    return out.read_text()\n",
        set(),
    ),
    "store": ("def asset():\n    return here('store', 'x').read_text()\n", set()),
    "thread": (
        "import threading\ndef asset():\n    t = threading.Thread(target=of_test)\n"
        "    t.start(); t.join()\ndef other(): return 1\n",
        {"shop.asset:other"},
    ),
}


def observe(module: ModuleType, *apart: Path) -> Observed:
    call = ObservedCall(module.asset, code_of(module.asset), apart)
    with call.running():
        module.asset()
    return call.observed()


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that code versions cannot know."""
    monkeypatch.setenv("SHOP", str(tmp_path))


def project(body: str) -> dict[str, str]:
    files = {"shop/parts.py": LATE, "shop/q.sql": "select 1", "conf/c.yaml": "a: 1", "store/x": "x"}
    return {**files, ".git/config": "", "shop/asset.py": HEAD + body}


@pytest.mark.parametrize("case", CASES)
def test_only_what_is_not_covered_is_named(
    write_project: WriteProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    body, expected = CASES[case]
    module = write_project(**project(body))
    monkeypatch.setattr(builtins, "of_test", getattr(module, "other", None), raising=False)
    found = observe(module, tmp_path / "store")
    assert {item.name for item in found.uncovered} == expected
    assert found.unseen == ()
    assert all(item.digest for item in found.uncovered)
    assert (found.code_version == code_of(module.asset).version) is (not expected)


def test_a_module_that_is_loaded_by_a_computed_name_counts_whole_once_it_runs(
    write_project: WriteProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = write_project(**project("def asset():\n    return of_test().f()\n"))
    monkeypatch.setattr(builtins, "of_test", partial(importlib.import_module, "shop.parts"), raising=False)
    first, second = observe(module), observe(module)
    assert [item.name for item in first.uncovered] == ["shop.parts:*"]
    assert [item.name for item in second.uncovered] == ["shop.parts:f"]


def test_an_empty_package_is_not_named(write_project: WriteProject) -> None:
    files = project("def asset():\n    from shop.inner.parts import f\n    return f()\n")
    module = write_project(**files, **{"shop/inner/__init__.py": "import json\n", "shop/inner/parts.py": LATE})
    assert observe(module).uncovered == ()


def test_the_main_program_of_another_process_is_named(write_project: WriteProject, tmp_path: Path) -> None:
    body = (
        "import subprocess\ndef asset():\n    subprocess.run([sys.executable, '-m', '.'.join(['shop', 'parts'])],"
        " cwd=here(), check=True)\n"
    )
    found = observe(write_project(**project(body)))
    assert [item.name for item in found.uncovered] == ["shop.parts:*"]
    assert found.unseen == ("code that ran in other Python processes, which the function started",)


def test_a_program_that_the_code_names_is_covered(write_project: WriteProject) -> None:
    body = (
        "import subprocess\ndef asset():\n    subprocess.run([sys.executable, '-m', 'shop.parts'],"
        " cwd=here(), check=True)\n"
    )
    assert observe(write_project(**project(body))).uncovered == ()


def test_an_error_of_the_comparison_does_not_lose_the_result(
    write_project: WriteProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = write_project(**project("def asset():\n    return here('shop', 'q.sql').read_text()\n"))
    monkeypatch.setattr(observed, "uncovered_files", None)
    found = observe(module)
    assert found.code_version is None
    assert found.unseen == ("the comparison, which failed with TypeError: 'NoneType' object is not callable",)


def test_processes_of_a_pool_are_told(write_project: WriteProject) -> None:
    body = "import multiprocessing\ndef asset():\n    multiprocessing.get_context('spawn').Process()\n"
    assert observe(write_project(**project(body))).unseen != ()


def test_a_script_that_is_no_module_is_named_as_a_file(write_project: WriteProject) -> None:
    body = "import runpy\ndef asset():\n    runpy.run_path(str(here('scripts', 'job.py')))\n"
    files = project(body) | {"scripts/job.py": "def f(): pass\nf()\n"}
    assert [item.name for item in observe(write_project(**files)).uncovered] == ["scripts/job.py"]


def test_a_file_that_the_function_replaces_has_no_digest(write_project: WriteProject) -> None:
    body = "def asset():\n    q = here('shop', 'q.sql')\n    q.write_text(q.read_text() + 'x')\n"
    found = observe(write_project(**project(body)))
    assert [(item.name, item.digest) for item in found.uncovered] == [("shop/q.sql", None)]
    assert found.code_version is None


def test_two_calls_at_the_same_time_are_not_mixed_up(write_project: WriteProject) -> None:
    module = write_project(**project("def asset():\n    return 1\n"))
    outer = ObservedCall(module.asset, code_of(module.asset))
    with outer.running():
        thread = threading.Thread(target=lambda: results.append(observe(module)))
        results: list[Observed] = []
        thread.start()
        thread.join()
    assert outer.observed().unseen == ()
    assert results[0].unseen != ()


def test_an_error_of_the_function_passes_and_ends_the_observation(write_project: WriteProject) -> None:
    module = write_project(**project("def asset():\n    raise KeyError('x')\n"))
    with pytest.raises(KeyError):
        observe(module)
    module.asset = lambda: None
    fine = write_project(**project("def asset():\n    return 1\n"))
    assert fine is module
