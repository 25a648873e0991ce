"""Examples cut into train, validation and test, without a text or its near-duplicate on two sides."""
