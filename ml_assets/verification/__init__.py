"""Verification of stored content against its hashes.

- `content`: reads recorded objects in a remote, a cache or a backup, and finds intact copies of damaged ones.
- `commands`: ``ml-assets data verify``.
"""
