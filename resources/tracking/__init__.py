"""MLflow: runs, artifacts, and the registry of models."""
