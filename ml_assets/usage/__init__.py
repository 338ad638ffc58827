"""What materializations take and cost.

A step measures itself (`ml_assets.artifacts.meter`) into its provenance record; its executor writes what passed before
its process began beside the launch.

- `history`: reads both from Dagster's event log.
- `summary`: what assets ask for, took and cost, and what they should ask for; pure.
- `rendering`: the answer for people and for machines.
- `commands`: ``ml-assets usage``.
"""
