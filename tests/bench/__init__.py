"""Comparative measurements against alternative tools; each module runs as `python -m tests.bench.NAME`."""
