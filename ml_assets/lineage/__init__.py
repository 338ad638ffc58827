"""Lineage: what was made of what, answered from what was recorded when it was made.

Other rooms import from this package alone; nothing of it is loaded before it is used. `Lineage` answers all questions::

    from ml_assets.lineage import Lineage

    Lineage(DagsterInstance.get()).trace("delay_model@2013-05-01", down=False).graph.nodes

- `service`: that class. Its answers are values of the modules below.
- `references`: what a person may write to name something; `questions`: what may be asked; `commands`: both at a shell.
- `graph`: nodes and edges; pure.
- `index`: SQL tables beside Dagster's event log, which answer in milliseconds and can be deleted.
- `deletion_log`: what `ml-assets gc` deleted; `model_aliases`: what MLflow's model registry has.
- `impact`: what must be made again if something is bad; pure.
- `difference`: what differs between the origins of two artifacts; pure.
- `why`: why something is stale, and why it ran; pure. `staleness` collects what Dagster says of it, `code_location`
  how it is defined today; `why_rendering` shows the answer.
- `rendering`: a graph as trees for people, as JSON for machines. `html_page`: as a page for browsers (`page/`, laid out
  by `layout`); `server` serves these pages. `mermaid`: as a flowchart. `openlineage`: as events for other systems.
- `statement`: what made an artifact, as an in-toto statement; pure.
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
"""Where each name is defined. Modules are imported when a name is used: who needs one must not load all of them."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
