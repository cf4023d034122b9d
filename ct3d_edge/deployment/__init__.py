"""Conventions of the systems that run ct3d-edge in a container: where studies come in and results go out."""
