"""The table of estimators in the documentation is what training does."""

from tests.resources.models.estimators import BEGIN, DOCUMENT, END, table


def test_committed_table_is_what_training_does() -> None:
    _, _, rest = DOCUMENT.read_text().partition(BEGIN)
    assert rest.partition(END)[0].strip() == table(), "run make models-table and commit docs/models.md"
