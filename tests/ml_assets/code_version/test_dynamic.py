import logging

import pytest

from ml_assets.code_version.version import code_version, reached
from tests.ml_assets.code_version.test_search import Project, project

__all__ = ["project"]


def test_dynamic_access_counts_the_whole_module_and_says_so_once(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    project.write({"a.py": "import said\nf = said.f\n", "said.py": "def f(n): return globals()[n]\ndef g(): ...\n"})
    with caplog.at_level(logging.WARNING):
        function = project.function()
        assert reached(function) == {"said:f", "said:g", "said:*"}
        code_version(function)
    assert caplog.messages == [
        "Code in said uses names that are only known when it runs. All of the module counts in code versions."
    ]


def test_an_unknown_import_counts_the_package_around_it(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    project.write(
        {
            "a.py": "from pkg_said import load\ndef f(name): return load(name)\n",
            "pkg_said/__init__.py": "import importlib\ndef load(name): return importlib.import_module(name)\n",
            "pkg_said/one.py": "X = 1\n",
        }
    )
    with caplog.at_level(logging.WARNING):
        found = reached(project.function())
    assert {"pkg_said.one:*", "pkg_said.one:X"} <= found
    assert "imports modules whose names are only known when it runs" in caplog.text
