"""What is kept on disk and found again: features, and indexes."""
