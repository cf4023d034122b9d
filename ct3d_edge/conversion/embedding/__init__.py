"""A model that takes stored voxels of any size and gives probabilities, with no preprocessing left to its caller."""
