"""A path becomes a `Scan`: stored numbers, slope and intercept, affine, and quality flags about them."""
