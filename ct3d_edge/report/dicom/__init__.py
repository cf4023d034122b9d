"""Predictions and maps as DICOM objects that an archive files beside the series that they were made of."""
