"""What was made of what: questions about lineage, answered from what was recorded when it was made.

`Lineage` answers them all::

    from ml_assets.lineage import Lineage

    Lineage(DagsterInstance.get()).trace("delay_model@2013-05-01", down=False).graph.nodes

- `lineage`: that class. What it answers with is in the modules below.
- `references`: what a person may write to name something.
- `questions`: what may be asked; `commands`: the same for people at a shell.
- `graph`: nodes and edges; pure.
- `events`: what one event of Dagster's log says; pure.
- `pointers`: the inputs that Dagster itself records, for assets that no factory of this project made; pure.
- `log`: Dagster's event log.
- `index`: a projection of it into SQL tables, which can be thrown away. `databases` says where it is kept, `tables` in
  what, `filling` brings it up to the log (`changes`, `links` and `rows` serve it), `naming` and `walking` ask it.
- `collected`: what of an answer `ml-assets gc` deleted; `registered`: what of it MLflow's model registry has.
- `impact`: what must be made again if something is bad; pure.
- `difference`: what differs between the origins of two artifacts; pure.
- `why`: why something is stale, and why it ran; pure. `staleness` collects what Dagster says of it,
  `code_location` how it is defined today; `explaining` tells it.
- `rendering`: graph → tree for people, JSON for machines. `pictures`: graph → page for browsers (`page/`, placed by
  `layout`), Mermaid; `server` serves the pages. `openlineage`: graph → events for other systems.
- `statement`: what made an artifact, as an in-toto statement; pure.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ml_assets.lineage.service import Lineage

__all__ = ["Lineage"]


def __getattr__(name: str) -> Any:
    # Not imported with the package: steps need some modules of it, and not those that this one needs.
    if name == "Lineage":
        from ml_assets.lineage.service import Lineage

        return Lineage
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
