"""Scans through reading, preprocessing and a session, one record each: side by side, in order, each on its own."""
