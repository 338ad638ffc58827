"""Trained models as files: the libraries that make them, and their ONNX form."""
