"""The git repository that code comes from."""
