"""A DICOM node: receives series, predicts them with an open model, and sends the reports to an archive."""
