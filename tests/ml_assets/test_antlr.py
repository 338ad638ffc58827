"""The runtime of this environment. `tests/projects` has the one that DVC's Hydra pins."""

from antlr4.atn.ATNDeserializer import ATNDeserializer
from antlr4.Recognizer import Recognizer

from ml_assets.antlr import read_newer_tables


def test_runtime_that_reads_dagsters_tables_is_left_unchanged() -> None:
    before = dict(vars(ATNDeserializer)), dict(vars(Recognizer))
    read_newer_tables()
    assert (dict(vars(ATNDeserializer)), dict(vars(Recognizer))) == before
