"""Training: the features of the frozen trunk, and the loop over the tail."""
