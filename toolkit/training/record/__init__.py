"""What a training leaves: its folder, snapshots, kept weights, logs and charts."""
