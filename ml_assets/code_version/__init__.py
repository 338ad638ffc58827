"""The code version of an asset: how code is found, read and described."""
