"""Pretrained decoders: the contract, its families, their weights and tokenizers, and text generation."""
