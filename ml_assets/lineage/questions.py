"""Questions about lineage, as values. Nothing is looked up here."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ml_assets.lineage.graph import NodeKind
from ml_assets.resources.provenance import ArtifactKind

__all__ = ["NODE_LIMIT", "Question"]

NODE_LIMIT: Final = 10_000
"""Default maximum number of nodes in an answer."""


@dataclass(frozen=True)
class Question:
    """A question about the lineage of an artifact.

    Attributes:
        reference: any reference that `parse_reference` reads.
        up: True to include its origins.
        down: True to include its uses.
        kinds: kinds of the nodes to return; all if empty.
        since: return only nodes made at this moment or later, if their time is known.
        depth: number of edges to follow from the named nodes; all if None.
        limit: maximum number of nodes in the answer.
    """

    reference: str
    up: bool = True
    down: bool = True
    kinds: frozenset[ArtifactKind | NodeKind] = frozenset()
    since: datetime | None = None
    depth: int | None = None
    limit: int = NODE_LIMIT

    @property
    def is_whole(self) -> bool:
        """True if the answer includes every node that it reaches."""
        return not self.kinds and self.since is None
