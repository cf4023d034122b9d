"""A path becomes a `Scan`: stored numbers, slope and intercept, affine, and findings about them."""
