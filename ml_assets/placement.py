"""The placement of a step's launch: image, pool and resources, as stored in the step and the event log."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from pydantic import BaseModel, ConfigDict

from ml_assets.resources.pools import Override, Pool, parse_memory, print_memory

__all__ = ["Placement", "current_placement", "placed", "pool_resources"]


class Placement(BaseModel):
    """The placement of one launch. The step receives it, and the event log records it with the launch."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    step: str
    number: int = 0
    """Number of earlier containers of this step in this run."""
    image: str
    """Image reference by digest."""
    image_asset: str | None = None
    """Image asset of the reference; None if the image is pinned by digest."""
    index_digest: str | None = None
    environment_digest: str | None = None
    pool: str
    cpus: float
    memory: str
    accelerators: int = 0
    check_accelerators: bool = True
    price_per_hour: float | None = None
    """Price of the pool."""
    run_seconds: int | None = None
    builds: bool = False
    """True if the step makes an image and needs BuildKit."""
    code_versions: dict[str, str] = {}
    """Code version that the code location expects of each asset of the step; empty if the image is pinned."""
    interruptions: int = 0
    """Number of interruptions of the step on this pool."""
    override: Override = Override()
    """Resource override for this step, independent of its pool."""

    def again(self, **changes: Any) -> "Placement":
        """Return the placement of the next launch of the same step."""
        return self.model_copy(update={"number": self.number + 1, **changes})

    def with_more_memory(self, pool: Pool) -> "Placement | None":
        """Return the next launch with twice the memory, up to the pool's cap; None if the cap is reached."""
        now = parse_memory(self.memory)
        cap = parse_memory(pool.memory_cap) if pool.memory_cap else now
        return self.again(memory=print_memory(min(2 * now, cap))) if cap > now else None

    def on(self, name: str, pool: Pool) -> "Placement":
        """Return the next launch on another pool, with that pool's resources."""
        return self.again(pool=name, interruptions=0, **pool_resources(pool, self.override))


_current: ContextVar[Placement | None] = ContextVar("ml_assets_placement", default=None)


def current_placement() -> Placement | None:
    """Return the placement of the running step; None if it is a plain process."""
    return _current.get()


@contextmanager
def placed(placement: Placement) -> Iterator[None]:
    """Make the placement available to a step's code."""
    token = _current.set(placement)
    try:
        yield
    finally:
        _current.reset(token)


def pool_resources(pool: Pool, over: Override) -> dict[str, Any]:
    """Return the resource fields of a placement on a pool; an override replaces the pool's values."""
    return {
        "cpus": over.cpus or pool.cpus,
        "memory": over.memory or pool.memory,
        "accelerators": pool.accelerators if over.accelerators is None else over.accelerators,
        "check_accelerators": pool.check_accelerators,
        "price_per_hour": pool.price_per_hour,
    }
