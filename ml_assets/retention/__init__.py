"""What may go: content, images and MLflow artifacts that no kept materialization refers to.

- `policy`: which materializations are kept; pure.
- `plan`: what that leaves to collect; pure.
- `garbage_collector`: reads what there is, and deletes.
- `commands`: ``ml-assets gc``.
"""
