"""Is this the published model? Comparisons, published values, reports."""
