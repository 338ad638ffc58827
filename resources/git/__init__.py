"""The git repository of the code."""
