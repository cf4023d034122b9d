"""From what the network gave for a scan to a map of where it looked."""

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
    """Where a network looked.

    Parameters
    ----------
    label
        The class that the map speaks for.
    cells
        ``(a, b, c)`` float32 not below 0, one number for each cell of the network's features.
    grid
        Where the cells lie in the network's input.
    contract
        Of the model.
    """

    label: str
    cells: NDArray[np.float32]
    grid: FeatureGrid
    contract: Contract

    def to_network_grid(self) -> NDArray[np.float32]:
        """The map on the network's input, ``contract.shape``."""
        return resample_to_network(self.cells, self.grid, self.contract.shape)

    def to_scan_grid(self, scan: Scan) -> ScanMap:
        """The map in a scan's own space."""
        return resample_to_scan(self.cells, self.grid, scan, self.contract)


class GradcamMaker:
    """Computes the maps of one model.

    Parameters
    ----------
    model
        A file that was exported with ``--with-gradcam-output``.

    Raises
    ------
    ModelError
        If it was not, or its head is not one that can be explained.
    """

    def __init__(self, model: ModelFile) -> None:
        if model.features is None:
            raise ModelError(
                f"{model.path} has no output to explain its answers by. Make a file that has one: "
                "ct3d-edge export --model MODEL.keras --out MODEL.onnx --with-gradcam-output"
            )
        try:
            self._cells = FeatureGrid.from_dict(model.provenance.get(FEATURE_GRID_KEY))
        except ValueError as error:
            raise ModelError(f"{model.path} does not say where its features lie ({error}). Export it again.") from error
        self._contract = model.contract
        self._head = find_global_pooling(onnx.ModelProto.FromString(model.data), model.output_name).head

    def explain(self, analysis: ScanResult) -> GradcamMap | None:
        """The map of one scan; None if there is no answer.

        Of two classes the second is explained, whatever the answer: where the network sees what it looks for. Of more
        classes, the one that is the answer.
        """
        answer = analysis.record.prediction
        if answer is None or analysis.features is None:
            return None
        labels = self._contract.labels
        label = labels[1] if len(labels) == 2 else answer.label
        output = 0 if self._contract.outputs == 1 else labels.index(label)
        return GradcamMap(label, compute_gradcam(analysis.features, self._head, output), self._cells, self._contract)
