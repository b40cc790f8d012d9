"""Encoders and heads as ONNX graphs, for engines outside of JAX and for files."""
