"""What people's files of data look like, one file a format."""
