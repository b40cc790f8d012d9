"""From token ids to rows of results: batches, compiled programs, devices, memory."""
