"""Where in a scan a network looked: Grad-CAM in closed form, by NumPy, and the way from its cells to the scan."""
