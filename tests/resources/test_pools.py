from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ml_assets.resources.pools import Override, Pool, Toleration, check_pools, parse_memory, print_memory

GIB = 2**30


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1Gi", GIB),
        ("512Mi", 2**29),
        ("1.5Gi", 3 * 2**29),
        ("4G", 4 * 10**9),
        ("16 Gi", 16 * GIB),
        (" 2Ti ", 2**41),
        ("5000000", 5_000_000),
        ("8192Ki", 2**23),
        ("5000k", 5_000_000),
    ],
)
def test_memory_is_read_as_kubernetes_writes_it(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "a lot", "16GB", "-1Gi", "1e9", "Gi", "1 Gi B", "16K"])
def test_what_is_no_amount_of_memory_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a memory size; write it as 512Mi or 16Gi"):
        parse_memory(text)


@pytest.mark.parametrize("text", ["16", "512k", "1Mi"])
def test_forgotten_unit_is_asked_after(text: str) -> None:
    with pytest.raises(ValueError, match="is less memory than any container needs; did you mean"):
        parse_memory(text)


def test_spaces_are_left_out_for_kubernetes() -> None:
    assert Pool(memory=" 16 Gi").memory == Override(memory="16 Gi ").memory == "16Gi"


@given(st.integers(min_value=2**22, max_value=2**50))
def test_printed_memory_is_exact(size: int) -> None:
    assert parse_memory(print_memory(size)) == size


def test_printed_memory_takes_the_largest_unit_that_is_exact() -> None:
    printed = [print_memory(size) for size in (GIB, 3 * 2**29, 2**22 + 1024, 5_000_001)]
    assert printed == ["1Gi", "1536Mi", "4097Ki", "5000001"]


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"cpus": 4, "cpu_limit": 2}, "cpu_limit 2 is below cpus 4"),
        ({"memory": "8Gi", "memory_cap": "4Gi"}, "memory_cap 4Gi is below memory 8Gi"),
        ({"memory": "1Gi", "shared_memory": "2Gi"}, "shared_memory 2Gi is part of memory 1Gi, and exceeds it"),
        ({"cpus": 0}, "greater than 0"),
        ({"accelerators": -1}, "greater than or equal to 0"),
        ({"concurrency": 0}, "greater than 0"),
        ({"pending_seconds": 0}, "greater than 0"),
        ({"price_per_hour": -1}, "greater than or equal to 0"),
        ({"memory": "much"}, "is not a memory size"),
        ({"gpu": 1}, "Extra inputs are not permitted"),
        ({"tolerations": [{"operator": "Like"}]}, "Input should be 'Exists' or 'Equal'"),
    ],
)
def test_impossible_pool_is_refused(wrong: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        Pool.model_validate(wrong)


def test_pool_needs_nothing_said() -> None:
    pool = Pool()
    assert (pool.cpus, pool.memory, pool.accelerators, pool.concurrency, pool.fallback) == (1, "1Gi", 0, None, None)
    assert Toleration(key="x").model_dump(exclude_none=True) == {"key": "x", "operator": "Exists"}


def test_override_says_nothing_by_default() -> None:
    assert Override().model_dump(exclude_none=True) == {}


def test_fallbacks_in_a_row_are_fine() -> None:
    names = ["spot", "gpu", "big", "last"]
    pools = {name: Pool(fallback=fallback) for name, fallback in pairwise(names)} | {"last": Pool()}
    assert check_pools(pools) == {}
    assert check_pools({}) == {}


def test_unknown_fallback_is_named_once_with_the_pools_there_are() -> None:
    pools = {"a": Pool(fallback="b"), "b": Pool(fallback="none")}
    assert check_pools(pools) == {"pools.b.fallback": "'none' is not a pool; the pools are a, b"}


def test_fallbacks_in_a_circle_are_shown() -> None:
    pools = {"a": Pool(fallback="b"), "b": Pool(fallback="a"), "self": Pool(fallback="self")}
    assert check_pools(pools) == {
        "pools.a.fallback": "the fallbacks form a cycle: a → b → a",
        "pools.b.fallback": "the fallbacks form a cycle: b → a → b",
        "pools.self.fallback": "the fallbacks form a cycle: self → self",
    }
