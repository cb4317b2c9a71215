"""Looking for a network's preprocessing: combinations in use, raced against each other on pictures."""
