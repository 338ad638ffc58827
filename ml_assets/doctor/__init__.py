"""Diagnosis of a target: finds faults and says what to do about them.

- `runner`: runs all checks at once, each within a deadline, and returns their findings.
- `services`: checks Dagster's database, content, MLflow, registry, package versions, and the machine.
- `docker`, `cluster`: check the engine or cluster that runs containers.
- `nodes`: checks that a pool has a node to run on; pure.
- `checks`: selects the checks of a target.
- `commands`: ``ml-assets doctor``.
"""
