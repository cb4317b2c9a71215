"""What a training computes with: number format and memory layout, ranks."""
