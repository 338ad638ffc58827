"""Usage: the resources, time and cost of materializations.

A step measures itself (`ml_assets.artifacts.meter`) and stores the result in its provenance record. Its executor
records the times before its process started, with the launch.

- `history`: reads both from Dagster's event log.
- `summary`: requested and used resources, cost and recommendation of each asset; pure.
- `rendering`: the report as text, tables and plain values.
- `commands`: ``ml-assets usage``.
"""
