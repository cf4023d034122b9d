"""Data to train and test on: published scans, and procedural phantoms where those may not be shared."""
