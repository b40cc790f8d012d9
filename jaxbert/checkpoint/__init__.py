"""A model's folder on disk <-> what the model needs, strict both ways."""
