"""Classifiers over HTTP: one engine owns the models, joins requests into batches, and shares trunks."""
