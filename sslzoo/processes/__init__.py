"""Many processes as one: rows, sums and decisions that all of them share."""
