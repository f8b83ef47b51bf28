"""What a person says of data beside where they lie: options, tables of labels, and which row is of which image."""
