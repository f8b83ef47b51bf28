"""Encoders that come in and go out."""
