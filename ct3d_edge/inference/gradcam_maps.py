"""From what the network gave for a scan to a map of where it looked."""

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import ModelError
from ct3d_edge.gradcam.gradcam import grad_cam
from ct3d_edge.gradcam.graph_trace import find_pooling
from ct3d_edge.gradcam.resample_to_scan import CELLS, Cells, MapOfScan, on_network_grid, on_scan_grid
from ct3d_edge.inference.predict import Analysis
from ct3d_edge.modelfile.model_file import ModelFile
from ct3d_edge.scan.volume import Scan


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where a network looked.

    Parameters
    ----------
    label
        The class that the map speaks for.
    cells
        ``(a, b, c)`` float32 not below 0, one number for each cell of the network's features.
    geometry
        Where the cells lie in the network's input.
    contract
        Of the model.
    """

    label: str
    cells: NDArray[np.float32]
    geometry: Cells
    contract: Contract

    def on_network_grid(self) -> NDArray[np.float32]:
        """The map on the network's input, ``contract.shape``."""
        return on_network_grid(self.cells, self.geometry, self.contract.shape)

    def on_scan_grid(self, scan: Scan) -> MapOfScan:
        """The map in a scan's own space."""
        return on_scan_grid(self.cells, self.geometry, scan, self.contract)


class Explainer:
    """Computes the maps of one model.

    Parameters
    ----------
    model
        A file that was exported with ``--explain``.

    Raises
    ------
    ModelError
        If it was not, or its head is not one that can be explained.
    """

    def __init__(self, model: ModelFile) -> None:
        if model.features is None:
            raise ModelError(
                f"{model.path} has no output to explain its answers by. Make a file that has one: "
                "ct3d-edge export --model MODEL.keras --out MODEL.onnx --explain"
            )
        try:
            self._cells = Cells.from_dict(model.provenance.get(CELLS))
        except ValueError as error:
            raise ModelError(f"{model.path} does not say where its features lie ({error}). Export it again.") from error
        self._contract = model.contract
        self._head = find_pooling(onnx.ModelProto.FromString(model.data), model.output_name).head

    def explain(self, analysis: Analysis) -> Explanation | None:
        """The map of one scan; None if there is no answer.

        Of two classes the second is explained, whatever the answer: where the network sees what it looks for. Of more
        classes, the one that is the answer.
        """
        answer = analysis.record.answer
        if answer is None or analysis.features is None:
            return None
        labels = self._contract.labels
        label = labels[1] if len(labels) == 2 else answer.label
        output = 0 if self._contract.outputs == 1 else labels.index(label)
        return Explanation(label, grad_cam(analysis.features, self._head, output), self._cells, self._contract)
