"""Files of a Triton model repository."""
