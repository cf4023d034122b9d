import pytest

pytest.importorskip("pydicom", reason="the extra 'dicom' is not installed")
pytest.importorskip("gdcm", reason="the extra 'dicom' is not installed")
