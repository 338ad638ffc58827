"""Backup and restore of a deployment.

- `contents`: saves the contents online, and restores them into an empty deployment.
- `checksums`: the lists of checksums of its files.
- `commands`: ``ml-assets backup`` and ``ml-assets restore``.
"""
