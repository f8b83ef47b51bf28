"""Python files that are written beside weights, for libraries that lack a net; they import nothing of sslzoo."""
