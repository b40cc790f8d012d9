"""How the folders of each model_type are read and written: one file per type."""
