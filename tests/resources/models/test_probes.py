import numpy as np
import pandas as pd

from ml_assets.resources.models.probes import probes

EXAMPLE = pd.DataFrame(
    {
        "share": [0.5, 0.25, np.nan],
        "count": [1, 2, 3],
        "small": np.array([1, 2, 3], dtype=np.int8),
        "late": [True, False, True],
        "word": ["a", None, "b"],
        "kind": pd.Series(["x", "y", "x"], dtype="category"),
        "optional": pd.array([1, None, 3], dtype="Int64"),
    }
)


def named() -> dict[str, pd.Series]:
    return {name: rows.rows.iloc[place] for rows in probes(EXAMPLE) for place, name in enumerate(rows.names)}


def test_example_comes_first_and_every_group_has_its_columns_and_types() -> None:
    groups = list(probes(EXAMPLE))
    pd.testing.assert_frame_equal(groups[0].rows, EXAMPLE)
    for group in groups:
        assert len(group.rows) == len(group.names)
        assert group.rows.dtypes.to_dict() == EXAMPLE.dtypes.to_dict()


def test_equal_examples_give_equal_rows() -> None:
    for first, second in zip(probes(EXAMPLE), probes(EXAMPLE.copy()), strict=True):
        pd.testing.assert_frame_equal(first.rows, second.rows)


def test_recombined_rows_are_new_and_within_the_range() -> None:
    _, _, recombined, *_ = probes(EXAMPLE)
    assert recombined.rows["share"].between(0.25, 0.5).sum() + recombined.rows["share"].isna().sum() == 100
    assert set(recombined.rows["word"].dropna()) == {"a", "b"}
    assert len(recombined.rows.drop_duplicates()) > 50


def test_edges_are_missing_values_unseen_categories_empty_text_and_extremes() -> None:
    rows = named()
    assert rows["a row with missing values in 'word'"]["word"] is None
    assert np.isnan(rows["a row with missing values in 'share'"]["share"])
    assert rows["a row with missing values in all such columns"]["optional"] is pd.NA
    assert rows["a row with an unseen category in 'word'"]["word"] == "unseen category"
    assert rows["a row with empty text in 'word'"]["word"] == ""
    assert rows["a row with values above the range in 'count'"]["count"] == 23
    assert rows["a row with values below the range in 'share'"]["share"] == -2.25
    assert rows["a row with zero in all such columns"]["small"] == 0


def test_extremes_stay_within_the_type() -> None:
    rows = [*probes(pd.DataFrame({"small": np.array([-100, 100], dtype=np.int8)}))]
    assert {int(value) for group in rows[3:] for value in group.rows["small"]} == {0, -127, 126}


def test_one_row_is_enough() -> None:
    assert [len(group.rows) for group in probes(pd.DataFrame({"a": [1.5]}))] == [1, 1, 1, 1, 1]
