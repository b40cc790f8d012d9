"""The other families of encoders, one file each: what the config adds, how it differs from BERT."""
