"""Compute Grad-CAM maps from the network's features of a scan."""

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import ModelError
from ct3d_edge.gradcam.gradcam import compute_gradcam
from ct3d_edge.gradcam.graph_trace import find_global_pooling
from ct3d_edge.gradcam.resample_to_scan import (
    FEATURE_GRID_KEY,
    FeatureGrid,
    ScanMap,
    resample_to_network,
    resample_to_scan,
)
from ct3d_edge.inference.predict import ScanResult
from ct3d_edge.modelfile.model_file import ModelFile
from ct3d_edge.scan.volume import Scan


@dataclass(frozen=True, eq=False)
class GradcamMap:
    """A Grad-CAM map.

    Parameters
    ----------
    label
        The class that the map explains.
    cells
        ``(a, b, c)`` float32, at least 0, one value per cell of the feature grid.
    grid
        Geometry of the cells in the network's input.
    contract
        The model's contract.
    """

    label: str
    cells: NDArray[np.float32]
    grid: FeatureGrid
    contract: Contract

    def to_network_grid(self) -> NDArray[np.float32]:
        """The map resampled to the network's input, ``contract.shape``."""
        return resample_to_network(self.cells, self.grid, self.contract.shape)

    def to_scan_grid(self, scan: Scan) -> ScanMap:
        """The map resampled to a scan's voxel grid."""
        return resample_to_scan(self.cells, self.grid, scan, self.contract)


class GradcamMaker:
    """Computes the maps of one model.

    Parameters
    ----------
    model
        A file with the Grad-CAM output (``gradcam_output=True``).

    Raises
    ------
    ModelError
        If it has no such output, or its head is not supported.
    """

    def __init__(self, model: ModelFile) -> None:
        if model.features is None:
            raise ModelError(
                f"{model.path} has no Grad-CAM output. Export it with one: "
                "ct3d-edge export --model MODEL.keras --out MODEL.onnx --with-gradcam-output"
            )
        try:
            self._grid = FeatureGrid.from_dict(model.provenance.get(FEATURE_GRID_KEY))
        except ValueError as error:
            raise ModelError(f"{model.path} has no valid feature grid ({error}). Export it again.") from error
        self._contract = model.contract
        self._head = find_global_pooling(onnx.ModelProto.FromString(model.data), model.output_name).head

    def compute_map(self, analysis: ScanResult) -> GradcamMap | None:
        """The map of one scan; None if there is no prediction.

        With two classes, the map is that of the second one, whatever the prediction; with more, of the predicted one.
        """
        prediction = analysis.record.prediction
        if prediction is None or analysis.features is None:
            return None
        labels = self._contract.labels
        label = labels[1] if len(labels) == 2 else prediction.label
        output = 0 if self._contract.outputs == 1 else labels.index(label)
        return GradcamMap(label, compute_gradcam(analysis.features, self._head, output), self._grid, self._contract)
