"""Training: the loop, its recipes, augmentation, resume, the divergence guard and sweeps."""
