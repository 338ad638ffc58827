"""State of the running step, shared by the I/O manager, which loads inputs, and the factory, which records the step."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from weakref import WeakKeyDictionary, ref

import dagster as dg

from ml_assets.artifacts.inputs import ResolvedInput, resolve_inputs
from ml_assets.artifacts.meter import StepMeter

__all__ = ["RunningStep", "running_step"]


class RunningStep:
    """The state of one running step, from its first input to its record.

    Attributes:
        meter: its clock and counters.
        has_foreign_record: True once its inputs are recorded on the materializations of assets that no factory made.
    """

    def __init__(self, context: dg.StepExecutionContext) -> None:
        self.meter = StepMeter()
        self.has_foreign_record = False
        # With a strong reference to its own key, an entry of the weak map would never be removed.
        self._context = ref(context)

    @cached_property
    def inputs(self) -> Mapping[dg.AssetKey, Sequence[ResolvedInput]]:
        """Return every input by upstream key, as `resolve_inputs` does.

        They are resolved only once, so that the step records what it loaded.
        """
        context = self._context()
        if context is None:
            raise RuntimeError("the step has ended")
        return resolve_inputs(context)


_running: WeakKeyDictionary[dg.StepExecutionContext, RunningStep] = WeakKeyDictionary()


def running_step(context: dg.StepExecutionContext) -> RunningStep:
    """Return the state of a step; its meter starts at the first call."""
    if context not in _running:
        _running[context] = RunningStep(context)
    return _running[context]
