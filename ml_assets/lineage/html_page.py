"""A trace as one self-contained HTML page."""

import html
import json
from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.resources import files
from string import Template
from typing import Any, Final

from ml_assets.addresses import Addresses
from ml_assets.lineage.graph import Node, Trace
from ml_assets.lineage.layout import NODE_SIZE, lay_out
from ml_assets.lineage.rendering import brief, facts
from ml_assets.resources.identity import AssetPartition
from ml_assets.resources.provenance import ProvenanceRecord

__all__ = ["page_policy", "render_page"]

_LEFT_OUT: Final = {"schema_version", "kind", "asset", "partition", "data_version", "inputs", "code"}
"""Fields of a provenance record that are also shown as fields or edges of its node."""


def render_page(
    trace: Trace, records: Mapping[str, ProvenanceRecord], addresses: Addresses, *, served: bool = False
) -> str:
    """Return one HTML page that shows a trace, with pan, zoom, search, and the record of each node.

    The page makes no request. It contains its style, script and data, and its content security policy forbids others.

    Args:
        trace: the trace to show.
        records: the available provenance records by node id.
        addresses: addresses of the UIs that it links to.
        served: True if a server answers the address ``?ref=`` of the page with another trace.
    """
    return Template(_part("page.html")).substitute(
        policy=page_policy(),
        title=html.escape(f"Lineage of {trace.starts[0] if len(trace.starts) == 1 else trace.reference}"),
        summary=html.escape(_summary(trace)),
        style=_part("page.css"),
        script=_part("page.js"),
        data=_in_script(_data(trace, records, addresses, served)),
        records=_in_script(
            {
                number: records[node_id].model_dump(mode="json", exclude=_LEFT_OUT, exclude_none=True)
                for number, node_id in enumerate(trace.graph.nodes)
                if node_id in records
            }
        ),
    )


def page_policy() -> str:
    """Return the content security policy of the page: only its own script runs, and nothing is fetched or sent."""
    digest = b64encode(sha256(_part("page.js").encode()).digest()).decode()
    allowed = f"style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"


@cache
def _part(name: str) -> str:
    return (files("ml_assets.lineage") / "page" / name).read_text(encoding="utf-8")


def _data(trace: Trace, records: Mapping[str, ProvenanceRecord], addresses: Addresses, served: bool) -> dict[str, Any]:
    graph, layout = trace.graph, lay_out(trace.graph)
    numbers = {node_id: number for number, node_id in enumerate(graph.nodes)}
    return {
        "size": NODE_SIZE,
        "served": served,
        "starts": [numbers[start] for start in trace.starts if start in numbers],
        "nodes": [
            _node(node, records.get(node_id), addresses) | dict(zip(("x", "y"), layout.positions[node_id], strict=True))
            for node_id, node in graph.nodes.items()
        ],
        "edges": [(numbers[edge.source], numbers[edge.target]) for edge in graph.edges],
        "blocks": [
            (each.asset, each.count, each.x, each.y, each.width, each.height, each.kind.value) for each in layout.blocks
        ],
    }


def _node(node: Node, record: ProvenanceRecord | None, addresses: Addresses) -> dict[str, Any]:
    fields = {
        "asset": node.asset,
        "partition": node.partition,
        "data version": node.data_version,
        "content": node.content_version,
        "image": node.image,
        "index digest": node.index_digest,
        "environment": node.environment,
        "commit": node.commit and f"{node.commit}{'+dirty' if node.dirty else ''}",
        "code version": node.code_version,
        "model version": node.model_version,
        "aliases": ", ".join(node.aliases),
        "serves": "deployed" if node.is_deployed else None,
        "deleted": node.deleted_at and node.deleted_at.isoformat(timespec="seconds"),
        "MLflow run": node.mlflow_run,
        "Dagster run": node.dagster_run,
        "recorded": node.timestamp and node.timestamp.isoformat(timespec="seconds"),
    }
    links = {text: url for text, url in _links(node, record, addresses).items() if _is_web(url)}
    return {
        "id": node.id,
        "kind": node.kind.value,
        "name": str(AssetPartition(node.asset, node.partition)),
        "partition": node.partition,
        "label": _label(node),
        "brief": brief(node),
        "fields": {name: value for name, value in fields.items() if value},
        **({"links": links} if links else {}),
    }


def _links(node: Node, record: ProvenanceRecord | None, addresses: Addresses) -> dict[str, Any]:
    repository = record.source.repository_page if record else None
    return {
        "asset in Dagster": addresses.asset(AssetPartition(node.asset, node.partition)),
        "run in Dagster": node.dagster_run and addresses.run(node.dagster_run),
        "run in MLflow": record and record.mlflow and record.mlflow.url,
        "model in MLflow": node.model_version and addresses.model_version(node.model_version),
        "commit": repository and node.commit and f"{repository}/commit/{node.commit}",
    }


def _is_web(url: Any) -> bool:
    return isinstance(url, str) and url.startswith(("http://", "https://"))


def _label(node: Node) -> str:
    return " · ".join([node.kind.value, *facts(node)])


def _summary(trace: Trace) -> str:
    up, down = (
        len(reached.difference(trace.starts)) if reached is not None else None
        for reached in (trace.upstream, trace.downstream)
    )
    told = [f"{len(trace.graph.nodes):,} nodes", f"{len(trace.graph.edges):,} edges"]
    told += [f"{up:,} upstream"] if up is not None else []
    told += [f"{down:,} downstream"] if down is not None else []
    return " · ".join(told)


def _in_script(value: Any) -> str:
    """Return JSON that an HTML parser cannot mistake for markup."""
    text = json.dumps(value, separators=(",", ":"), default=str)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
