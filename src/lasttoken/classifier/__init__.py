"""A classifier is a backbone with a head: loading, saving, predicting, evaluating, explaining."""
