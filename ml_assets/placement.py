"""The placement of one step: the image, pool and resources of one launch, as the step and the event log know it."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from pydantic import BaseModel, ConfigDict

from ml_assets.resources.pools import Override, Pool, parse_memory, print_memory

__all__ = ["Placement", "current_placement", "placed", "pool_resources"]


class Placement(BaseModel):
    """Where one launch of a step runs. It is told to the step, and written to the event log with the launch."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    step: str
    number: int = 0
    """How many containers this step had in this run before this one."""
    image: str
    """Image reference by digest."""
    image_asset: str | None = None
    """Image asset that the reference is of; None where it was pinned by digest."""
    index_digest: str | None = None
    environment_digest: str | None = None
    pool: str
    cpus: float
    memory: str
    accelerators: int = 0
    check_accelerators: bool = True
    price_per_hour: float | None = None
    """The pool's."""
    run_seconds: int | None = None
    builds: bool = False
    """Whether the step makes an image, and so has to reach BuildKit."""
    code_versions: dict[str, str] = {}
    """Code version that the code location expects of each asset that the step makes; empty where it is pinned."""
    interruptions: int = 0
    """How often the step was interrupted on this pool."""
    override: Override = Override()
    """What was said of this step's resources, whatever its pool."""

    def again(self, **changes: Any) -> "Placement":
        """The next launch of the same step."""
        return self.model_copy(update={"number": self.number + 1, **changes})

    def with_more_memory(self, pool: Pool) -> "Placement | None":
        """The next launch with twice the memory, up to the pool's cap; None where there is no more to give."""
        now = parse_memory(self.memory)
        cap = parse_memory(pool.memory_cap) if pool.memory_cap else now
        return self.again(memory=print_memory(min(2 * now, cap))) if cap > now else None

    def on(self, name: str, pool: Pool) -> "Placement":
        """The next launch on another pool, with that pool's resources."""
        return self.again(pool=name, interruptions=0, **pool_resources(pool, self.override))


_current: ContextVar[Placement | None] = ContextVar("ml_assets_placement", default=None)


def current_placement() -> Placement | None:
    """Where the running step runs; None where it is a plain process."""
    return _current.get()


@contextmanager
def placed(placement: Placement) -> Iterator[None]:
    """Let a step's code know where it runs."""
    token = _current.set(placement)
    try:
        yield
    finally:
        _current.reset(token)


def pool_resources(pool: Pool, over: Override) -> dict[str, Any]:
    """Return the resource fields of a placement on a pool, with an override over the pool's own."""
    return {
        "cpus": over.cpus or pool.cpus,
        "memory": over.memory or pool.memory,
        "accelerators": pool.accelerators if over.accelerators is None else over.accelerators,
        "check_accelerators": pool.check_accelerators,
        "price_per_hour": pool.price_per_hour,
    }
