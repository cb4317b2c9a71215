"""What a training learns from: pictures prepared, augmented and handed out in batches."""
