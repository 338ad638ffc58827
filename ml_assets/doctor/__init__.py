"""What is wrong with a target, and what to do about it.

- `runner`: runs all checks at once, each within a deadline, and gives their findings.
- `services`: Dagster's database, content, MLflow, registry, versions of packages, the machine.
- `docker`, `cluster`: what containers run on.
- `nodes`: whether a pool has a node to run on; pure.
- `checks`: which of these a target needs.
- `commands`: ``ml-assets doctor``.
"""
