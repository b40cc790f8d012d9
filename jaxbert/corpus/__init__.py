"""Runs over files: read rows, embed them part by part, go on after an interruption."""
