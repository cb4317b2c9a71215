"""ONNX graphs: captured from torch, named after modules, cast, quantized, and read back."""
