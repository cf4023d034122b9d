"""``ct3d-edge export``: a Keras model becomes a proven ONNX file."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ct3d_edge.atomic import require_writable
from ct3d_edge.cli.options import LabelsOption, OrientationOption, check_labels
from ct3d_edge.errors import ScanError, UsageError
from ct3d_edge.keras_import import import_keras

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ct3d_edge.contract import Contract

PHANTOM_SHAPE = (128, 128, 32)
PHANTOM_SEED = 20_000
"""Far from the seeds that models are trained on."""


def export(
    source: Annotated[Path, typer.Argument(help="A folder that `train` wrote, or a .keras file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The ONNX file to write.")],
    labels: LabelsOption = None,
    orientation: OrientationOption = None,
    size: Annotated[
        tuple[int, int, int] | None,
        typer.Option(metavar="W H D", help="Input size, for a network that leaves it open."),
    ] = None,
    proof: Annotated[
        Path | None,
        typer.Option(help="Scans to prove the file on; phantoms fill up to eight, or serve alone."),
    ] = None,
    limit: Annotated[
        float, typer.Option(min=0, max=0.01, help="Largest difference of a probability that the proof allows.")
    ] = 1e-5,
    activation: Annotated[
        Literal["identity", "sigmoid", "softmax"] | None,
        typer.Option(help="What the output still lacks to be probabilities; read off the network if left out."),
    ] = None,
) -> None:
    """Convert a Keras model to a self-describing ONNX file, and prove that both answer alike.

    A proof that does not hold leaves no file and ends with exit code 4.
    """
    names = check_labels(labels)
    if out.suffix.lower() != ".onnx":
        raise UsageError(f"The file to write must end in .onnx, found {out}.")
    require_writable(out)
    import_keras()
    from ct3d_edge.cli.terminal import say
    from ct3d_edge.conversion import export_model, load_source

    loaded = load_source(source, labels=names, orientation=orientation, size=size, activation=activation)
    for remark in loaded.remarks:
        say(remark)
    material, volumes = _proof_volumes(proof, loaded.contract)
    exported = export_model(
        loaded, out, volumes, material=material, limit=limit, on_stage=lambda stage: say(f"{stage} ...")
    )
    typer.echo(f"proof: {exported.proof.describe()}")
    typer.echo(f"wrote {out} ({len(exported.model.data) / 1e6:.1f} MB, {exported.model.nodes} nodes)")


def _proof_volumes(folder: Path | None, contract: "Contract") -> tuple[str, "Iterator[NDArray[np.float32]]"]:
    """What the proof runs on, in words, and the network inputs, made one at a time."""
    from ct3d_edge.conversion import MINIMUM_VOLUMES
    from ct3d_edge.scan import find_scans

    scans = find_scans([folder]) if folder else []
    phantoms = max(0, MINIMUM_VOLUMES - len(scans))
    parts = [f"{len(scans)} scans from {folder}"] if scans else []
    parts += [f"{phantoms} phantoms from seed {PHANTOM_SEED}"] if phantoms else []
    return " and ".join(parts), _volumes(scans, phantoms, contract)


def _volumes(scans: list[Path], phantoms: int, contract: "Contract") -> "Iterator[NDArray[np.float32]]":
    from ct3d_edge.datasets import las_affine, make_phantom
    from ct3d_edge.preprocess import preprocess
    from ct3d_edge.scan import NiftiScan, Volume

    for scan in scans:
        try:
            yield preprocess(NiftiScan(scan), contract).volume
        except ScanError as error:
            raise UsageError(f"The proof cannot use {scan} ({error.code}): {error}") from error
    for index in range(phantoms):
        phantom = make_phantom(PHANTOM_SEED + index, abnormal=index % 2 == 1, shape=PHANTOM_SHAPE)
        volume = Volume(phantom.hu, affine=las_affine(phantom.hu.shape, phantom.spacing))
        yield preprocess(volume, contract).volume
