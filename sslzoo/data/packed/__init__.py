"""Files that hold many images: where each lies in one, and reading it alone."""
