"""From images to batches of views, for training and for evaluation."""
