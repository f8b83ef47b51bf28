"""Pictures of embeddings: galleries, planes and trade-offs."""
