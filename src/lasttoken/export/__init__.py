"""Classifiers for elsewhere: transformers, ONNX, a hub; and from elsewhere: the book's own weights."""
