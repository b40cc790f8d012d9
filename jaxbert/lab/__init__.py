"""Tools for research on attention variants: what a scheme does, before it is trained."""
