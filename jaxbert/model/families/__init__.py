"""The other families of encoders, one file each: what its config adds, and how it differs from BERT."""
