"""Embeddings as files that people take along: tables, arrays, and shards of many rows."""
