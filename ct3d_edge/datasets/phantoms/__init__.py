"""Procedural chest CTs: patient, disease, scanner, and the files they are written to."""
