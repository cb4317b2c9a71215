"""TensorRT in both flavours: networks, layers, kernels and what is known without a GPU."""
