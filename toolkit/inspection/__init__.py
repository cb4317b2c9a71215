"""Looking at networks and their answers: evaluation, predictions, sheets, layers, feature maps."""
