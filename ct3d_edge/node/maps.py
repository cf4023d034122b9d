"""Grad-CAM maps of predicted series, which are sent after their reports."""

import logging
from pathlib import Path

from ct3d_edge.errors import OutputError, ScanError
from ct3d_edge.inference.model import Model
from ct3d_edge.node.config import MapKinds
from ct3d_edge.results.record import ResultRecord

LOGGER = logging.getLogger(__name__)


class MapWriter:
    """Writes the maps of series.

    Parameters
    ----------
    model, model_name
        Computes them, opened with Grad-CAM; its name is in them.
    kinds
        Which are written.
    timeout_s
        Time limit of a scan; none if None.
    """

    def __init__(self, model: Model, model_name: str, kinds: MapKinds, timeout_s: float | None) -> None:
        self._model, self._model_name, self._kinds, self._timeout_s = model, model_name, kinds, timeout_s

    def write(self, record: ResultRecord, stem: Path) -> list[Path]:
        """The files of a record's maps; those that are there already are not written again.

        A map that cannot be made is logged: the report does not depend on it.

        Parameters
        ----------
        stem
            Path of the files without their endings.

        Raises
        ------
        OutputError, DiskError
            If the disk fails.
        """
        if not (record.has_prediction and self._kinds.any):
            return []
        try:
            return self._write(record, stem)
        except OutputError:
            raise
        except ScanError as error:
            LOGGER.warning("%s: no map: %s", stem.name, error)
            return []

    def _write(self, record: ResultRecord, stem: Path) -> list[Path]:
        from ct3d_edge.report.dicom import parametric_map, secondary_capture
        from ct3d_edge.report.dicom.mapped_series import open_mapped_series

        map_path = stem.with_name(f"{stem.name}_pm.dcm")
        lack_pictures = self._kinds.captures and not secondary_capture.has_same_pictures(stem, record, self._model_name)
        lack_map = self._kinds.parametric and not parametric_map.has_same_map(map_path, record, self._model_name)
        if lack_pictures or lack_map:
            gradcam = self._model.compute_gradcam_map(self._model.recompute(record, self._timeout_s))
            if gradcam is None:
                return []
            mapped = open_mapped_series(record, gradcam.to_scan_grid, gradcam.label, self._model_name)
            if lack_pictures:
                secondary_capture.save_pictures(mapped, stem)
            if lack_map:
                parametric_map.save_parametric_map(mapped, map_path)
        pictures = secondary_capture.find_pictures(stem) if self._kinds.captures else ()
        return [*pictures, *([map_path] if self._kinds.parametric else [])]
