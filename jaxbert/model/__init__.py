"""The encoders as mathematics: nothing here knows of files, devices or callers."""
