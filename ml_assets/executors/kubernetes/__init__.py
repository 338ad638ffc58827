"""Kubernetes as a container engine, and as the launcher of runs."""
