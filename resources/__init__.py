"""Adapters for the systems that a step uses: content store, tracking server, image registry, image builder."""
