"""A pretrained decoder: its network, weights, tokenizer, and text written with it."""
