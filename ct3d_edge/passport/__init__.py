"""What can be said of a scan before a model judges it: named checks, each with its measured value."""
