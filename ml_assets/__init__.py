"""Dagster plugins for containerized machine learning."""
