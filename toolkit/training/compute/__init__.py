"""What a training computes with: number format and memory layout, and kernels of its own for few channels."""
