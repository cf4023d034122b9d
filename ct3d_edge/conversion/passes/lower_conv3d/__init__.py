"""3D operators as 2D ones: the planes of a volume become a batch of images."""
