"""Two profiles or two columns held against each other."""
