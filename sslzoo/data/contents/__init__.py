"""What images hold, wherever they lie: hashes of files, and what tells a data set from another."""
