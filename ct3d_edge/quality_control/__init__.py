"""Quality control of a scan before a model is run on it: named checks, each with its measured value."""
