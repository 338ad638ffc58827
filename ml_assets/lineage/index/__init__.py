"""The lineage index: SQL tables beside Dagster's event log. They are synced from it, and can be deleted and rebuilt.

- `index`: opens the index of an instance and answers questions.
- `databases`: databases for the tables: the instance's PostgreSQL, an SQLite file, or memory.
- `schema`: the tables, and the statements that all modules share.
- `event_log`: reads Dagster's event log.
- `event_parser`: parses one event; pure.
- `dagster_inputs`: resolves inputs that Dagster recorded, for assets without a factory of this project; pure.
- `sync`: updates the tables from the log.
- `invalidation`: finds the nodes to link again after deletions and late events.
- `nodes`: reads, writes and deletes nodes and their identifiers.
- `linking`: finds the node of an input version.
- `lookup`: finds the nodes that a reference names.
- `traversal`: finds the nodes upstream and downstream of these.
- `deletions`: marks content that `ml-assets gc` deleted.
"""
