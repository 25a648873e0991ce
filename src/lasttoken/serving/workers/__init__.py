"""One port, several processes: a parent that computes nothing starts workers, watches them and replaces them."""
