"""What was made of what: questions about lineage, answered from what was recorded when it was made.

- `references`: what a person may write to name something.
- `graph`: nodes, edges and the questions; pure.
- `pointers`: the inputs that Dagster itself records, for assets that no factory of this project made; pure.
- `loader`: Dagster's event log → graph.
- `rendering`: graph → tree for people, JSON for machines.
"""
