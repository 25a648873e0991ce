"""One file for each HTTP interface: its bodies, its answers and its routes."""
