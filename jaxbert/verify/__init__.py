"""Is this the published model? Comparisons, published vectors, reports."""
