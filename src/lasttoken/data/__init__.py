"""From a file of labelled texts to train, validation and test splits."""
