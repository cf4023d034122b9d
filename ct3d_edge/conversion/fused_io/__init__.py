"""A model that takes stored voxels of any size and gives probabilities: preprocessing inside the file."""
