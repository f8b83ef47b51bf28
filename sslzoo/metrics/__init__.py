"""What rows of numbers are worth; knows no model and no data set."""
