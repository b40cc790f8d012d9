"""The names and layouts of published tensors: one file per family, read in both directions."""
