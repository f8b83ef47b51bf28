"""Embeddings that people bring along: files of many formats, what is what in them, and banks beside queries."""
