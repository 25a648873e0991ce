"""The search for better settings than the default ones, over cached features."""
