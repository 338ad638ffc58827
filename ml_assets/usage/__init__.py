"""What materializations take and cost.

A step measures itself (`ml_assets.metering`) into its provenance record; what passed before its process began, its
executor writes beside the launch.

- `history`: reads both from Dagster's event log.
- `summary`: what assets ask for, took and cost, and what they should ask for; pure.
- `rendering`: the answer for people and for machines.
- `commands`: ``ml-assets usage``.
"""
