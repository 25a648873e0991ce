"""Classifiers in other formats: for transformers, ONNX and a hub; and runs made of the book's own weights."""
