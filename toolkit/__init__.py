"""What everything in cnnkit stands on: models, data, training, backends and profiling."""
