"""Augmentation: what a network is shown in training instead of the very same volume each time."""
