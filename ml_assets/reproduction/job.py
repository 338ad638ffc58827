"""The job: one op, which runs in the recorded image and logs one observation, the verdict.

Every code location loads this module, so the modules that do the work are imported where they are used.
"""

import dagster as dg

from ml_assets.artifacts.io_manager import STORAGE_KEY
from ml_assets.resources.errors import MlAssetsError

__all__ = ["JOB_NAME", "OP_NAME", "REFUSAL_METADATA", "reproduction_job"]

JOB_NAME = "ml_assets_reproduce"
OP_NAME = "ml_assets_reproduce_materialization"
"""Past images know this name, and the job's name. Dagster requires unique op names."""

REFUSAL_METADATA = "ml_assets/refusal"
"""Metadata entry of a failure by a refused reproduction: the error, as JSON."""


def reproduction_job() -> dg.JobDefinition:
    """Return the job ``ml_assets_reproduce``, with one op whose config is a `ReproductionRequest` as JSON.

    The config is one text, so that an image of another version, which has another schema, can pass it to the code that
    checks its version.
    """

    @dg.op(
        name=OP_NAME,
        config_schema={"request": dg.Field(str, description="The request, as ml-assets reproduce writes it.")},
        required_resource_keys={STORAGE_KEY},
        out=dg.Out(dg.Nothing),
    )
    def run_again(context: dg.OpExecutionContext) -> None:
        """Run a past materialization again, publish nothing, and log whether the result is the same."""
        from ml_assets.reproduction.reproduce import reproduce
        from ml_assets.reproduction.request import parse_request

        try:
            request = parse_request(context.op_config["request"])
            storage = getattr(context.resources, STORAGE_KEY)
            repository, instance = context.repository_def, context.instance
            verdict = reproduce(request, repository, instance, storage, context.log.info, context.run_id)
        except MlAssetsError as error:
            entry = {"what": error.what, "next_step": error.next_step, "asset": error.asset}
            raise dg.Failure(
                str(error), metadata={REFUSAL_METADATA: dg.MetadataValue.json(entry)}, allow_retries=False
            ) from error
        context.log.info(f"{request.artifact}: {verdict.outcome}")
        context.log_event(verdict.observation())

    @dg.job(name=JOB_NAME, description="Run a past materialization again: see ml-assets reproduce --help.")
    def job() -> None:
        run_again()

    return job
