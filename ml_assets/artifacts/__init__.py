"""Artifacts from ordinary functions: the factory, its inputs, its storage, and the record of a step."""
