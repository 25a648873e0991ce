"""Fetching what has a name: data sets and backbones, whole and checked, or one sentence about why not."""
