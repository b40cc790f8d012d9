"""JSON -> checked requests, rows -> JSON: pure functions, a file for each vendor, no socket."""
