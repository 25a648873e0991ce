"""What is done with whole runs: train, assess, repeat, compare, describe."""
