"""Measurements side by side with what people would use instead; each module runs as `python -m tests.bench.NAME`."""
