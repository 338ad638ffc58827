"""Retention: find and delete content, images and MLflow artifacts that no kept materialization refers to.

- `policy`: selects the materializations to keep; pure.
- `plan`: plans what to collect; pure.
- `garbage_collector`: reads the deployment, and deletes.
- `commands`: ``ml-assets gc``.
"""
