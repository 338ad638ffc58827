"""The lineage index: SQL tables beside Dagster's event log, synced from it, that can be deleted and built anew.

- `index`: opens the index of an instance, and answers from it.
- `databases`: where the tables are: the instance's PostgreSQL, an SQLite file, or memory.
- `schema`: the tables, and statements that all modules build on them.
- `event_log`: Dagster's event log as the index reads it.
- `event_parser`: what one event says; pure.
- `dagster_inputs`: inputs that Dagster itself recorded, for assets that no factory of this project made; pure.
- `sync`: brings the tables up to date with the log.
- `invalidation`: what has to be linked again after deletions and late events.
- `nodes`: nodes in the tables, with their identifiers.
- `linking`: finds the node that an input version is.
- `lookup`: finds the nodes that a reference names.
- `traversal`: what these came from, and what came from them.
- `deletions`: marks what `ml-assets gc` deleted.
"""
