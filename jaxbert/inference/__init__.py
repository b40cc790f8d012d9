"""Token ids -> rows of results: batches, compiled programs, devices, memory."""
