"""Image registries, by the OCI distribution protocol."""
