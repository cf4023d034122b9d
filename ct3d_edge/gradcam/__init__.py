"""Grad-CAM in closed form, by NumPy, and its way into the space of the scan."""
