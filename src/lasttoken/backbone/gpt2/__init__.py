"""GPT-2, the first family of decoders: its network, its files, and what it can be exported to."""
