"""Formats: how the values of datasets and feature sets are stored, one module per kind of value."""
