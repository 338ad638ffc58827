"""Kubernetes as a container engine and as a run launcher."""
