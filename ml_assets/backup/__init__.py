"""Back-ups of what a deployment keeps, and how they come back.

- `contents`: what a backup consists of, saved while everything goes on, and restored into an empty deployment.
- `commands`: ``ml-assets backup`` and ``ml-assets restore``.
"""
