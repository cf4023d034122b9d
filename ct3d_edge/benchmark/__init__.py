"""A scan file to its probability, timed: one at a time, in batches, under load; and what it costs besides time."""
