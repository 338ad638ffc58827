"""Lineage: answers questions about the origin and use of artifacts from recorded provenance.

Other packages import from this package alone. Its modules load on first use. `Lineage` answers all questions::

    from ml_assets.lineage import Lineage

    Lineage(DagsterInstance.get()).trace("delay_model@2013-05-01", down=False).graph.nodes

- `service`: the class `Lineage`. Its answers are values of the modules below.
- `references`: the text that names an artifact; `questions`: the parameters of a question; `commands`: the CLI.
- `graph`: nodes and edges; pure.
- `index`: SQL tables beside Dagster's event log. They answer in milliseconds and can be deleted.
- `deletion_log`: deletions by `ml-assets gc`; `model_aliases`: the contents of MLflow's model registry.
- `impact`: the artifacts to rebuild if an input is bad; pure.
- `difference`: the differences between the origins of two artifacts; pure.
- `why`: why an asset is stale, and why it ran; pure. `staleness` collects Dagster's view of it, `code_location`
  its current definition; `why_rendering` renders the answer.
- `rendering`: a graph as text trees and as JSON. `html_page`: as a page for browsers (`page/`, laid out
  by `layout`); `server` serves these pages. `mermaid`: as a flowchart. `openlineage`: as events for other systems.
- `statement`: the provenance of an artifact as an in-toto statement; pure.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ml_assets.lineage.deletion_log import DeletionLog, explain_missing
    from ml_assets.lineage.difference import Aspect, recorded_differences
    from ml_assets.lineage.graph import LineageGraph, Node, NodeKind
    from ml_assets.lineage.index.event_parser import parse_record
    from ml_assets.lineage.index.index import open_index
    from ml_assets.lineage.model_aliases import ModelAliases
    from ml_assets.lineage.references import DIRTY_MARK
    from ml_assets.lineage.service import Lineage

__all__ = [
    "DIRTY_MARK",
    "Aspect",
    "DeletionLog",
    "Lineage",
    "LineageGraph",
    "ModelAliases",
    "Node",
    "NodeKind",
    "explain_missing",
    "open_index",
    "parse_record",
    "recorded_differences",
]

_MODULES = {
    "DIRTY_MARK": "references",
    "Aspect": "difference",
    "DeletionLog": "deletion_log",
    "Lineage": "service",
    "LineageGraph": "graph",
    "ModelAliases": "model_aliases",
    "Node": "graph",
    "NodeKind": "graph",
    "explain_missing": "deletion_log",
    "open_index": "index.index",
    "parse_record": "index.event_parser",
    "recorded_differences": "difference",
}
"""The module that defines each name. Modules are imported on first use, so that no user has to load all of them."""


if not TYPE_CHECKING:  # otherwise a type checker would accept any name

    def __getattr__(name: str) -> Any:
        module = _MODULES.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
        return value
