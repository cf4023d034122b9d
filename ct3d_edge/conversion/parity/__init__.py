"""The parity check: whether a file gives the same probabilities as what it was made from, and where it does not."""
