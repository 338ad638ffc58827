"""Marks the content in an answer that `ml-assets gc` deleted and that was not stored again since."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import datetime

import sqlalchemy as sql

from ml_assets.lineage.deletion_log import kept_version
from ml_assets.lineage.graph import Trace
from ml_assets.lineage.index import schema
from ml_assets.lineage.references import ReferenceKind

__all__ = ["FindDeletions", "mark_deleted"]

FindDeletions = Callable[[Collection[str]], Mapping[str, datetime]]
"""Returns the versions that were ever deleted, with the time of deletion."""


def mark_deleted(connection: sql.Connection, trace: Trace, find_deletions: FindDeletions) -> Trace:
    """Return the trace with the deletion times of its nodes' content.

    Args:
        connection: a connection to the index.
        trace: the answer from the index.
        find_deletions: called once, with all versions in the trace.
    """
    versions = {node_id: version for node_id, node in trace.graph.nodes.items() if (version := kept_version(node))}
    deleted = find_deletions(set(versions.values()))
    if not deleted:
        return trace
    last = _last_recorded(connection, deleted)
    gone = {version: moment for version, moment in deleted.items() if last.get(version, 0) <= moment.timestamp()}
    nodes = trace.graph.nodes
    changed = {key: replace(nodes[key], deleted_at=gone[each]) for key, each in versions.items() if each in gone}
    return replace(trace, graph=trace.graph.changed(changed))


def _last_recorded(connection: sql.Connection, versions: Collection[str]) -> dict[str, float]:
    """Return the time at which each version was last recorded, in seconds since the epoch."""
    identifiers, carried, nodes = schema.identifiers.c, schema.node_identifiers.c, schema.nodes.c
    # One look-up per version, for any number of nodes that have it.
    newest = sql.select(sql.func.max(carried.node)).where(carried.identifier == identifiers.id).scalar_subquery()
    found = (
        sql.select(identifiers.value, nodes.timestamp)
        .select_from(schema.identifiers)
        .join(schema.nodes, nodes.key == newest)
    )
    last = {}
    for batch in schema.batches(versions):
        rows = connection.execute(
            found.where(identifiers.kind == ReferenceKind.VERSION.value, identifiers.value.in_(batch))
        )
        last.update({version: timestamp for version, timestamp in rows if timestamp})
    return last
