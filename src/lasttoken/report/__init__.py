"""What a run shows to a person: curves, and one page that holds everything."""
