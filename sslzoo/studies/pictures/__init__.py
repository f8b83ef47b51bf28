"""Pictures of a table, a kind a file: its lattice as a heat map, its training curves, its bars, its scores."""
