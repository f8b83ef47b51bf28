"""Files of a data set as they are found: folders that are read once, and paths by the million."""
