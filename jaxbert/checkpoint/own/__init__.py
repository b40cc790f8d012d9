"""Encoders with parts of a user's own code: their folder, and what it says about that code."""
