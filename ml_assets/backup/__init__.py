"""Backup and restore of a deployment.

- `contents`: saves the contents online, and restores them into an empty deployment.
- `commands`: ``ml-assets backup`` and ``ml-assets restore``.
"""
