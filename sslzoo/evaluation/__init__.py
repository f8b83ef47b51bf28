"""Embeddings compared: sources, protocols, tables of them."""
