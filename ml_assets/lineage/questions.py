"""What may be asked of lineage. Nothing is looked up here."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ml_assets.lineage.graph import NodeKind
from ml_assets.resources.provenance import ArtifactKind

__all__ = ["NODE_LIMIT", "Question"]

NODE_LIMIT: Final = 10_000
"""So many nodes an answer may have."""


@dataclass(frozen=True)
class Question:
    """What is asked of the lineage of something.

    Attributes:
        reference: any reference that `parse_reference` reads.
        up: whether to ask what it came from.
        down: whether to ask what came from it.
        kinds: kinds of the nodes to answer with; all if there are none.
        since: answer with what was made at this moment or later, of which the time is known.
        depth: how many edges to follow, counted from what the reference names; all if None.
        limit: how many nodes the answer may have.
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
        """Whether it leaves nothing out of what it reaches."""
        return not self.kinds and self.since is None
