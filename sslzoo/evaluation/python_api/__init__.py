"""What Python offers beside the commands: a run to look into, features, neighbours and retrieval."""
