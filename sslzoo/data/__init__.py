"""What a data set is, and how one is read."""
