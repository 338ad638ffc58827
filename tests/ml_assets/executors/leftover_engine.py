"""A container engine that contains only leftovers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ml_assets.executors.engine import ContainerEngine, ContainerRequest, ContainerState, ContainerStatus
from ml_assets.executors.failures import Failure

__all__ = ["LeftoverEngine"]


@dataclass
class LeftoverEngine(ContainerEngine):
    """A fake: real engines cannot be made to have leftovers. It removes its own when they are stopped or removed."""

    containers: dict[str, tuple[str, ContainerState]]
    stops: int = 1
    """Number of requests to stop until a container is gone."""
    keeps_failed: bool = False
    """True if failed containers remain, as they do for a while on Kubernetes."""
    removed: list[tuple[str, bool]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    name, noun = "Leftovers", "leftover"

    def start(self, request: ContainerRequest) -> None:
        raise NotImplementedError

    def observe(self, run_id: str) -> Mapping[str, ContainerStatus]:
        return {name: ContainerStatus(state) for name, (run, state) in self.containers.items() if run == run_id}

    def evidence(self, name: str, lines: int) -> tuple[Sequence[str], Sequence[str]]:
        raise NotImplementedError

    def pull_seconds(self, name: str) -> float | None:
        raise NotImplementedError

    def why_gone(self, name: str) -> Failure | None:
        raise NotImplementedError

    def stop(self, name: str) -> bool:
        self.asked.append(name)
        if self.asked.count(name) < self.stops:
            return False
        del self.containers[name]
        return True

    def remove(self, name: str, *, succeeded: bool) -> None:
        self.removed.append((name, succeeded))
        if succeeded or not self.keeps_failed:
            del self.containers[name]

    def all_runs(self) -> Mapping[str, Sequence[str]]:
        runs: dict[str, list[str]] = {}
        for name, (run, _) in self.containers.items():
            runs.setdefault(run, []).append(name)
        return runs
