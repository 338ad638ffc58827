"""Looks up the nodes that a reference names."""

from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple

import sqlalchemy as sql

from ml_assets.lineage.graph import Node, NodeKind, image_digest
from ml_assets.lineage.index import schema
from ml_assets.lineage.index.nodes import node_query, read_node, read_nodes
from ml_assets.lineage.references import Interpretation, ParsedReference, ReferenceKind
from ml_assets.resources.errors import AmbiguousReference, UnknownReference
from ml_assets.resources.provenance import ArtifactKind

__all__ = ["Match", "find_nodes", "with_same_version"]

_SHOWN: Final = 6
_LAST: Final = "\U0010ffff"
"""Sorts after every other character."""
_MOST_DIGITS: Final = 18
"""The most digits that an id can have in a database."""

_Identifier = tuple[ReferenceKind, str]


class Match(NamedTuple):
    """The keys of the nodes that a reference names, and the kind of the reference."""

    kind: ReferenceKind
    keys: set[int]


def find_nodes(connection: sql.Connection, reference: ParsedReference) -> Match:
    """Return the nodes that a reference names.

    An asset, or one partition of it, stands for the latest materialization of each of its partitions, which is its
    current state. Any other reference stands for all nodes that have it as an identifier, such as all materializations
    with the same data version.

    Raises:
        UnknownReference: no recorded artifact matches the reference.
        AmbiguousReference: several different artifacts match the reference.
    """
    exact = dict.fromkeys((interpretation.kind, interpretation.value) for interpretation in reference.interpretations)
    matches = {name: keys for name in exact if (keys := _nodes_with(connection, name))}
    if not matches:
        matches = {name: _nodes_with(connection, name) for name in _with_prefix(connection, reference.interpretations)}
    if not matches:
        raise _unknown(connection, reference)
    if len(matches) > 1:
        raise _ambiguous(connection, reference, matches)
    (((kind, _), keys),) = matches.items()
    return Match(kind, keys)


def with_same_version(connection: sql.Connection, keys: Collection[int]) -> set[int]:
    """Return these nodes and all nodes of their partitions with the same data version; for images, the same digest.

    Everything downstream of one of them was made from the content that all of them have.
    """
    nodes, given = schema.nodes.c, schema.nodes.alias("given")
    is_equal = (nodes.asset == given.c.asset) & (nodes.data_version == given.c.data_version)
    found = set(keys)
    for is_same in schema.same_partition(nodes, given.c):
        pairs = sql.select(nodes.key, nodes.kind, nodes.image, given.c.kind, given.c.image).select_from(given)
        pairs = pairs.join(schema.nodes, is_equal & is_same).where(schema.one_of(connection, given.c.key, keys))
        found |= {key for key, *pair in connection.execute(pairs) if not _are_other_images(*pair)}
    return found


def _are_other_images(kind: str, image: str | None, other_kind: str, other: str | None) -> bool:
    """Return True if two nodes with one environment are different images, for example if only their code differs."""
    if not (kind == other_kind == ArtifactKind.IMAGE.value and image and other):
        return False
    return image_digest(image) != image_digest(other)


def _with_prefix(connection: sql.Connection, interpretations: Iterable[Interpretation]) -> list[_Identifier]:
    columns, found = schema.identifiers.c, set[_Identifier]()
    # An identifier stays in its table when its nodes are deleted.
    is_carried = (
        sql.select(schema.node_identifiers.c.node).where(schema.node_identifiers.c.identifier == columns.id).exists()
    )
    for interpretation in interpretations:
        if not interpretation.is_prefix:
            continue
        begun = [columns.value, columns.digits] if interpretation.kind is ReferenceKind.VERSION else [columns.value]
        for column in begun:
            begins = column.between(interpretation.value, interpretation.value + _LAST)
            wanted = sql.select(columns.value).where(begins, columns.kind == interpretation.kind.value, is_carried)
            found |= {(interpretation.kind, value) for value in connection.scalars(wanted)}
    return sorted(found)


def _nodes_with(connection: sql.Connection, name: _Identifier) -> set[int]:
    kind, value = name
    if kind is ReferenceKind.EVENT:
        return _event(connection, value)
    if kind is ReferenceKind.ASSET:
        return _asset(connection, value)
    columns = schema.identifiers.c
    keys = (
        sql.select(schema.node_identifiers.c.node)
        .join(schema.identifiers, columns.id == schema.node_identifiers.c.identifier)
        .where(columns.kind == kind.value, columns.value == value)
    )
    return set(connection.scalars(keys))


def _event(connection: sql.Connection, name: str) -> set[int]:
    artifact, _, event = name.rpartition("#")
    found = _missing(connection, artifact)
    if event.isdecimal() and len(event) <= _MOST_DIGITS:
        found |= read_nodes(connection, [int(event)])
    return {key for key, node in found.items() if node.id == name}


def _asset(connection: sql.Connection, name: str) -> set[int]:
    """Return the last node of each partition; a missing node only if the partition has no other."""
    nodes, keys = schema.nodes.c, list[int]()
    for which in _artifacts(connection, name):
        last = sql.select(sql.func.max(nodes.key)).where(which, nodes.key > 0).group_by(nodes.asset, nodes.partition)
        keys += connection.scalars(last)
    latest: dict[str | None, int] = {}
    for found in (_missing(connection, name), read_nodes(connection, keys)):
        for key, node in sorted(found.items(), key=lambda item: (item[1].storage_id or 0, -item[0])):
            latest[node.partition] = key
    return set(latest.values())


def _missing(connection: sql.Connection, artifact: str) -> dict[int, Node]:
    found = {}
    for which in _artifacts(connection, artifact):
        for row in connection.execute(node_query().where(which, schema.nodes.c.key < 0)):
            found[row.key] = read_node(row)
    return found


def _artifacts(connection: sql.Connection, text: str) -> Iterable[sql.ColumnElement[bool]]:
    """Yield each reading of a text as an asset, or as an asset and its partition. Both may contain any character."""
    splits = [(text, None), *((text[:at], text[at + 1 :]) for at, letter in enumerate(text) if letter == "@")]
    known = sql.select(schema.assets).where(schema.assets.c.name.in_({asset for asset, _ in splits}))
    numbers: dict[str, int] = {name: number for number, name in connection.execute(known)}
    for asset, partition in splits:
        if asset in numbers:
            is_of_asset = schema.nodes.c.asset == numbers[asset]
            yield is_of_asset if partition is None else is_of_asset & (schema.nodes.c.partition == partition)


def _unknown(connection: sql.Connection, reference: ParsedReference) -> UnknownReference:
    is_unreadable = schema.nodes.c.kind == NodeKind.UNREADABLE.value
    count, key = connection.execute(
        sql.select(sql.func.count(), sql.func.max(schema.nodes.c.key)).where(is_unreadable)
    ).one()
    last = read_nodes(connection, [key])[key].id if count else None
    except_in = f" (unreadable events: {count}, such as {last})" if count else ""
    return UnknownReference(
        f"no recorded artifact matches {reference.text!r}{except_in}",
        next_step="check the spelling, and check that this is the Dagster instance that recorded it"
        + (f"; run trace {last!r} to see why that event cannot be read" if count else ""),
    )


def _ambiguous(
    connection: sql.Connection, reference: ParsedReference, matches: Mapping[_Identifier, set[int]]
) -> AmbiguousReference:
    shown = []
    for (kind, value), keys in list(matches.items())[:_SHOWN]:
        (last,) = read_nodes(connection, [max(keys)]).values()
        shown.append(f"{kind} {value} ({last.id})")
    more = f", and {len(matches) - len(shown)} more" if len(matches) > len(shown) else ""
    return AmbiguousReference(
        f"{reference.text!r} is ambiguous: it matches {' and '.join(shown)}{more}",
        next_step="write one of them in full, or write the id of a materialization, as shown in parentheses",
    )
