"""An answer as a DICOM structured report that is filed beside the series it speaks of."""
