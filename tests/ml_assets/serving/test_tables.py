from typing import Any

import numpy as np
import pytest

from ml_assets.resources.errors import InvalidInput
from ml_assets.serving.signature import Column
from ml_assets.serving.tables import TableReader

COLUMNS = (
    Column("distance", "double", True),
    Column("speed", "float", False),
    Column("hour", "integer", True),
    Column("late", "boolean", True),
)
F32 = np.dtype(np.float32)
NESTED = [1]
for _ in range(1000):
    NESTED = [NESTED]  # type: ignore[list-item]


@pytest.fixture
def table() -> TableReader:
    return TableReader(COLUMNS, {"features": (F32, 2)})


def _place(row: int, column: int) -> str:
    return f"[{row}][{column}]"


def test_rows_become_one_matrix_of_the_graphs_type(table: TableReader) -> None:
    feeds = table.feeds([[1, 2.5, 3, True], [4.0, None, 6.0, False]], _place)
    assert feeds["features"].dtype == F32
    np.testing.assert_array_equal(feeds["features"], [[1, 2.5, 3, 1], [4, np.nan, 6, 0]])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (["1", 1, 1, True], r"\[1\]\[0\] must be a number, because distance has the type double, got '1'"),
        ([None, 1, 1, True], r"\[1\]\[0\] must be a number.*got null"),
        ([float("nan"), 1, 1, True], r"\[1\]\[0\].*got null \(NaN\)"),
        ([float("inf"), 1, 1, True], r"\[1\]\[0\].*got inf"),
        ([10**400, 1, 1, True], r"\[1\]\[0\]"),
        ([1e300, 1, 1, True], r"\[1\]\[0\] must be a number"),
        ([1, 1e39, 1, True], r"\[1\]\[1\] must be a number of 32 bits, or null"),
        ([1, 1, 1.5, True], r"\[1\]\[2\] must be a whole number of 32 bits.*got 1.5"),
        ([1, 1, 2**31, True], r"\[1\]\[2\] must be a whole number of 32 bits"),
        ([1, 1, 1, 1], r"\[1\]\[3\] must be true or false.*got 1"),
        ([1, True, 1, True], r"\[1\]\[1\] must be a number"),
        ([1, [1], 1, True], r"\[1\]\[1\] must be a number"),
        ([1, {}, 1, True], r"\[1\]\[1\] must be a number"),
        ([1, NESTED, 1, True], r"\[1\]\[1\] must be a number"),
    ],
)
def test_value_that_does_not_fit_is_named_by_its_place(table: TableReader, row: list[Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        table.feeds([[1, 1, 1, True], row], _place)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["distance", "hour", "late", "hours"], "the unknown column 'hours'; the model's columns are distance"),
        (["distance", "hour", "late", "hour"], "the column 'hour' twice"),
        (["speed", "late"], "lacks the columns distance, hour"),
        ([1, "distance"], "the unknown column 1"),
        ([["distance"]], "the column"),
    ],
)
def test_columns_that_are_missing_or_too_many_are_named(table: TableReader, given: list[Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        table.order(given, "columns")


def test_columns_may_come_in_any_order_and_optional_ones_not_at_all(table: TableReader) -> None:
    assert table.order(["late", "hour", "distance"], "columns") == [2, None, 1, 0]


def test_typed_columns_are_checked_as_values_are(table: TableReader) -> None:
    arrays = {"distance": np.array([1.5]), "hour": np.array([7]), "late": np.array([True])}
    np.testing.assert_array_equal(table.feeds_of_columns(arrays, str)["features"], [[1.5, np.nan, 7, 1]])
    with pytest.raises(InvalidInput, match=r"hour\[0\] must be a whole number"):
        table.feeds_of_columns(arrays | {"hour": np.array([7.5])}, str)
    with pytest.raises(InvalidInput, match="each value of late must be true or false, got the type float64"):
        table.feeds_of_columns(arrays | {"late": np.array([1.0])}, str)
    with pytest.raises(InvalidInput, match="different numbers of rows: 1, 2"):
        table.feeds_of_columns(arrays | {"hour": np.array([7, 8])}, str)


def test_matrix_must_have_a_column_for_each(table: TableReader) -> None:
    matrix = np.array([[1.0, 2.0, 3.0, 1.0]])
    np.testing.assert_array_equal(table.feeds_of_matrix(matrix, "data")["features"], matrix)
    with pytest.raises(InvalidInput, match=r"shape \[rows, 4\].*got \[1, 3\]"):
        table.feeds_of_matrix(matrix[:, :3], "data")
    with pytest.raises(InvalidInput, match=r"data\[0, 2\] \(hour\) must be a whole number"):
        table.feeds_of_matrix(matrix + 0.5, "data")


def test_graph_may_take_each_column_by_itself_strings_too() -> None:
    columns = (Column("carrier", "string", True), Column("hour", "long", True))
    table = TableReader(columns, {"carrier": (np.dtype(object), 2), "hour": (np.dtype(np.int64), 1)})
    feeds = table.feeds([["UA", 7], ["AA", 8]], _place)
    assert feeds["carrier"].tolist() == [["UA"], ["AA"]]
    assert (feeds["hour"].dtype, feeds["hour"].tolist()) == (np.int64, [7, 8])
    with pytest.raises(InvalidInput, match=r"\[0\]\[0\] must be a string"):
        table.feeds([[7, 7]], _place)
    with pytest.raises(InvalidInput, match=r"\[0\]\[1\] must be a whole number"):
        table.feeds([["UA", "7"]], _place)


LARGE = 2**53 + 1


@pytest.mark.parametrize("others", [(), (Column("carrier", "string", True),), (Column("late", "boolean", True),)])
@pytest.mark.parametrize("value", [LARGE, -LARGE, 2**63 - 1, -(2**63)])
def test_whole_numbers_of_64_bits_arrive_as_they_were_sent(value: int, others: tuple[Column, ...]) -> None:
    kinds = {"string": np.dtype(object), "boolean": np.dtype(np.bool_)}
    inputs = {"flight": (np.dtype(np.int64), 2)} | {each.name: (kinds[each.type], 2) for each in others}
    table = TableReader((Column("flight", "long", True), *others), inputs)
    more = ["UA" if each.type == "string" else True for each in others]
    feeds = table.feeds([[value, *more], [7.0, *more]], _place)
    assert feeds["flight"].tolist() == [[value], [7]]
    arrays = {"flight": np.array([value])} | {
        each.name: np.array([one]) for each, one in zip(others, more, strict=True)
    }
    assert table.feeds_of_columns(arrays, str)["flight"].tolist() == [[value]]


def test_matrix_of_whole_numbers_stays_one() -> None:
    columns = (Column("flight", "long", True), Column("hour", "integer", True), Column("late", "boolean", True))
    table = TableReader(columns, {"features": (np.dtype(np.int64), 2)})
    np.testing.assert_array_equal(table.feeds([[LARGE, 7, True]], _place)["features"], [[LARGE, 7, 1]])
    np.testing.assert_array_equal(table.feeds_of_matrix(np.array([[LARGE, 7, 1]]), "data")["features"], [[LARGE, 7, 1]])


@pytest.mark.parametrize(
    ("value", "dtype", "said"),
    [
        (2**63, np.int64, "a whole number of 64 bits"),
        (-(2**63) - 1, np.int64, "a whole number of 64 bits"),
        (2.0**63, np.int64, "a whole number of 64 bits"),
        (2**31, np.int32, "a whole number from -2147483648 to 2147483647"),
        (2.0**31, np.int32, "a whole number from -2147483648 to 2147483647"),
    ],
)
def test_whole_number_that_the_graph_cannot_hold_is_refused(value: float, dtype: Any, said: str) -> None:
    table = TableReader((Column("flight", "long", True),), {"flight": (np.dtype(dtype), 2)})
    with pytest.raises(InvalidInput, match=rf"\[1\]\[0\] must be {said}"):
        table.feeds([[1], [value]], _place)
    if abs(value) > 2**63:
        return  # no array of numbers can hold it
    with pytest.raises(InvalidInput, match=rf"flight\[0\] must be {said}"):
        table.feeds_of_columns({"flight": np.array([float(value)])}, str)


def test_largest_whole_number_is_accepted_where_the_graph_rounds_it(table: TableReader) -> None:
    longs = TableReader((Column("flight", "long", True),), {"features": (F32, 2)})
    assert longs.feeds([[2**63 - 1]], _place)["features"].tolist() == [[2.0**63]]
    with pytest.raises(InvalidInput, match="got 9223372036854775808"):
        longs.feeds([[2**63 - 1], [2**63]], _place)


def test_many_numbers_that_have_to_be_looked_at_again_are_looked_at_once() -> None:
    longs = TableReader((Column("flight", "long", True),), {"flight": (np.dtype(np.int64), 2)})
    rows = [[2**63 - 1]] * 100_000
    assert longs.feeds(rows, _place)["flight"].shape == (100_000, 1)


def test_booleans_in_a_matrix_are_0_or_1(table: TableReader) -> None:
    with pytest.raises(InvalidInput, match=r"data\[0, 3\] \(late\) must be 0 or 1, because .*got 7.5"):
        table.feeds_of_matrix(np.array([[1.0, 2.0, 3.0, 7.5]]), "data")
    with pytest.raises(InvalidInput, match=r"\(late\) must be 0 or 1"):
        table.feeds_of_matrix(np.array([[1.0, 2.0, 3.0, 1e300]]), "data")
    optional = TableReader((Column("late", "boolean", False),), {"features": (F32, 2)})
    with pytest.raises(InvalidInput, match=r"data\[1, 0\] \(late\) must be 0 or 1, or null"):
        optional.feeds_of_matrix(np.array([[np.nan], [2.0]]), "data")
    assert np.isnan(optional.feeds_of_matrix(np.array([[np.nan], [1.0]]), "data")["features"][0, 0])


def test_missing_value_that_the_graphs_type_cannot_hold_is_refused() -> None:
    table = TableReader((Column("hour", "long", False),), {"hour": (np.dtype(np.int64), 2)})
    with pytest.raises(InvalidInput, match=r"\[0\]\[0\] must be a whole number of 64 bits, because"):
        table.feeds([[None]], _place)


def test_value_that_a_later_columns_type_cannot_hold_is_named_with_that_column() -> None:
    columns = (Column("hour", "long", True), Column("distance", "double", True))
    table = TableReader(columns, {"hour": (np.dtype(np.int64), 2), "distance": (F32, 2)})
    with pytest.raises(InvalidInput, match=r"\[0\]\[1\] must be a number, because distance has the type double"):
        table.feeds([[7, 1e300]], _place)
