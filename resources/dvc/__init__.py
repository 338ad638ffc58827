"""Content in a DVC remote, addressed by its hash."""
