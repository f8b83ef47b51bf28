"""From views to a loss: one Siamese core, whose switches make every method."""
