"""Dagster components for the kinds of artifact, so that YAML can declare them: a layer over the factories."""
