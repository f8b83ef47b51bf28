"""Encoders that go out: one file a format, and the table of them in `formats`."""
