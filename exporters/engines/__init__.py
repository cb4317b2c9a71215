"""TensorRT engines: what they can be built for, how they are built, and the count of their types."""
