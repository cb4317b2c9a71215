"""ONNX graphs: read, named, counted, ordered and run."""
