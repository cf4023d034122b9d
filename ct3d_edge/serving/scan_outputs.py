"""What a response has besides the record: Grad-CAM map and report."""

from pathlib import Path

from ct3d_edge.gradcam.resample_to_scan import save_map
from ct3d_edge.inference.model import Model
from ct3d_edge.inference.predict import ScanResult
from ct3d_edge.report.montage import save_png
from ct3d_edge.report.page import ReportPage
from ct3d_edge.report.slice_images import draw_overlay
from ct3d_edge.scan.loader import open_scan


def write_gradcam(model: Model, result: ScanResult, scan: Path, folder: Path) -> list[Path]:
    """The map on the scan's grid and a picture of it: ``gradcam.nii.gz`` and ``gradcam.png``."""
    explanation, model_input = model.compute_gradcam_map(result), result.model_input
    if explanation is None or model_input is None:
        return []
    volume, picture = folder / "gradcam.nii.gz", folder / "gradcam.png"
    opened = open_scan(scan, raise_refused=False)
    save_map(explanation.to_scan_grid(opened), volume, f"Grad-CAM; model {result.record.model_sha256[:16]}")
    pixels = draw_overlay(model_input.volume, explanation.to_network_grid(), explanation.contract.hu_window)
    save_png(pixels, picture)
    return [volume, picture]


def write_report(model: Model, result: ScanResult, folder: Path) -> Path:
    """The page that ``infer --report`` writes, of this scan: ``report.html``."""
    page = ReportPage(folder / "report.html", model.contract)
    explanation = model.compute_gradcam_map(result)
    volume = result.model_input.volume if result.model_input else None
    overlay = explanation.to_network_grid() if explanation else None
    page.add(result.record, volume, overlay, explanation.label if explanation else "")
    page.save([result.record], model.run_report.to_dict())
    return page.path
