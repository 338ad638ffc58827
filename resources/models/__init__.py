"""Trained models as files: their libraries and their ONNX form."""
