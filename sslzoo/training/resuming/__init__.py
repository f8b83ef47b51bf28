"""A run that goes on: its plan again, and how it goes on beyond its end."""
