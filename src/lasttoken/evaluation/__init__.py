"""How good a classifier is: metrics with intervals, and the cheap models it has to beat."""
