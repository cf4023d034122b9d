"""DICOM files, classic and enhanced: found, grouped by series, put in order, decoded plane by plane.

Only `sniff` can be imported without pydicom.
"""
