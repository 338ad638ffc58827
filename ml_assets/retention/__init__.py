"""What may go: content, images and MLflow artifacts that no kept materialization refers to.

- `policy`: which materializations are kept; pure.
- `plan`: what that leaves to collect; pure.
- `collector`: reads what there is, and deletes.
- `ledger`: remembers what was collected, so that whoever asks for it is told.
- `commands`: ``ml-assets gc``.
"""
