"""Classifiers over HTTP: one owner of the models, requests joined into batches, several tails on one trunk."""
