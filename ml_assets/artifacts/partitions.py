"""The order of an upstream's partitions, which decides the order of rows where a step joins them."""

from collections.abc import Callable, Iterable
from typing import Any

import dagster as dg

__all__ = ["in_order"]


def in_order(keys: Iterable[str], definition: dg.PartitionsDefinition[Any] | None) -> list[str]:
    """Return partition keys in an order that follows from their definition; Dagster keeps most of them in sets.

    Time windows are in order of time, static partitions in the order of their definition, dynamic partitions by name.
    Partitions of several dimensions are ordered by the first dimension, then by the next; Dagster sorts dimensions by
    name.
    """
    rank = _rank(definition)
    return sorted(keys, key=lambda key: (rank(key), str(key)))


def _rank(definition: dg.PartitionsDefinition[Any] | None) -> Callable[[str], Any]:
    if isinstance(definition, dg.MultiPartitionsDefinition):
        ranks = {each.name: _rank(each.partitions_def) for each in definition.partitions_defs}

        def of_dimensions(key: str) -> tuple[Any, ...]:
            parts = definition.get_partition_key_from_str(key).keys_by_dimension
            return tuple((rank(parts[name]), parts[name]) for name, rank in ranks.items())

        return of_dimensions
    if isinstance(definition, dg.TimeWindowPartitionsDefinition):
        return lambda key: definition.start_time_for_partition_key(key).timestamp()
    if isinstance(definition, dg.StaticPartitionsDefinition):
        places = {key: place for place, key in enumerate(definition.get_partition_keys())}
        return lambda key: places.get(key, len(places))
    return lambda _: 0
