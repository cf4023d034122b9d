"""The fastest verified way to run a model on this device: candidates, measurement, stored choice.

Loading a stored result needs neither passes nor measurements; `tune` imports those.
"""
