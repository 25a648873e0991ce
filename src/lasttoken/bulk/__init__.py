"""A file of texts classified into another, of any size."""
