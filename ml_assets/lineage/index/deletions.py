"""What of an answer was collected, and not made again since."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import datetime

import sqlalchemy as sql

from ml_assets.lineage.deletion_log import kept_version
from ml_assets.lineage.graph import Trace
from ml_assets.lineage.index import schema
from ml_assets.lineage.references import Form

__all__ = ["FindCollected", "with_collected"]

FindCollected = Callable[[Collection[str]], Mapping[str, datetime]]
"""Gives those of the versions that were ever collected, and when."""


def with_collected(connection: sql.Connection, trace: Trace, find_collected: FindCollected) -> Trace:
    """The trace with what was collected.

    Args:
        connection: to the index.
        trace: what was found in it.
        find_collected: asked of all versions in the trace at once.
    """
    versions = {node_id: version for node_id, node in trace.graph.nodes.items() if (version := kept_version(node))}
    collected = find_collected(set(versions.values()))
    if not collected:
        return trace
    last = _last_recorded(connection, collected)
    gone = {version: moment for version, moment in collected.items() if last.get(version, 0) <= moment.timestamp()}
    nodes = trace.graph.nodes
    changed = {key: replace(nodes[key], collected=gone[each]) for key, each in versions.items() if each in gone}
    return replace(trace, graph=trace.graph.changed(changed))


def _last_recorded(connection: sql.Connection, versions: Collection[str]) -> dict[str, float]:
    """When each version was recorded last, in seconds since 1970."""
    names, carriers, nodes = schema.names.c, schema.carriers.c, schema.nodes.c
    # One look-up for each version, however many nodes carry it.
    newest = sql.select(sql.func.max(carriers.node)).where(carriers.name == names.id).scalar_subquery()
    found = sql.select(names.value, nodes.timestamp).select_from(schema.names).join(schema.nodes, nodes.key == newest)
    last = {}
    for page in schema.pages(versions):
        rows = connection.execute(found.where(names.form == Form.VERSION.value, names.value.in_(page)))
        last.update({version: timestamp for version, timestamp in rows if timestamp})
    return last
