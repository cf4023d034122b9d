"""How well is a scan told that the model was not made for, and how often is one told that it was?

    python -m bench.distribution [MODEL.onnx ...] [--real FOLDER ...]

Phantoms of seeds that neither trained nor validated the shipped model, the same ones changed, what is made by formulas,
and real scans if there are some. The first model's counts are printed beside what the rest of the passport says. The
others, files of the same network, are asked of every fifth scan: how far their distances lie from the first one's.
Everything goes to bench/results/distribution.json.
"""

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from bench.ood_samples import SHAPE, make_chest, make_ood_scans
from bench.save_record import save_record
from bench.sessions import open_session, run_session
from ct3d_edge.errors import RefusedScanError, UsageError
from ct3d_edge.latency.measure import Samples, measure_interleaved
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.modelfile.golden_input import make_phantom_volume
from ct3d_edge.modelfile.model_file import ModelFile, default_model_path, load_model_file
from ct3d_edge.modelfile.signature import POOLED_OUTPUT
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.quality_control.checker import QualityChecker
from ct3d_edge.quality_control.domain_shift import MahalanobisOOD
from ct3d_edge.scan.discovery import find_scans
from ct3d_edge.scan.loader import open_scan
from ct3d_edge.scan.volume import Scan
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner
from ct3d_edge.system.machine import describe_machine

FIRST_SEED, PHANTOMS, CHANGED = 70_001, 200, 20
ROUNDS, EVERY = 15, 5
LIKE, FINER = "phantoms", "phantoms 512 x 512"
PACKAGES = ("ct3d-edge", "numpy", "onnxruntime", "onnxruntime-gpu", "scipy")


@dataclass(frozen=True)
class OODResult:
    """One scan: the distance that each model finds, and what else its passport says, by severity."""

    kind: str
    distances: tuple[float, ...]
    warning_codes: tuple[str, ...]
    refused: tuple[str, ...]


class OODEvaluator:
    """Models that know their training features, and the passport of the first."""

    def __init__(self, runners: list[Runner]) -> None:
        for runner in runners:
            if runner.model.pooled is None:
                raise UsageError(f"{runner.model.path} holds no feature statistics: calibrate its run and export it.")
        self.runners = runners
        self.known = [runner.contract.feature_statistics for runner in runners]
        self._resemblances = [MahalanobisOOD(known) for known in self.known if known]
        self._checker = QualityChecker(runners[0].contract)
        self.milliseconds: list[float] = []
        self.asked = 0

    def evaluate(self, kind: str, scan: Scan, path: Path = Path("drawn")) -> OODResult:
        """Measure one scan."""
        prepared = preprocess(scan, self._checker.contract)
        found = self._checker.flags(path, scan, prepared)
        distances = []
        asked = self.runners if self.asked % EVERY == 0 else self.runners[:1]
        self.asked += 1
        for runner, ood_flags in zip(asked, self._resemblances, strict=False):
            pooled = runner.outputs(prepared.volume[None]).pooled
            begun = time.perf_counter()
            distances.append(float(ood_flags.distances(np.asarray(pooled))[0]))
            self.milliseconds.append((time.perf_counter() - begun) * 1e3)
        codes = {severity: tuple(f.code for f in found if f.severity == severity) for severity in ("warn", "refuse")}
        return OODResult(kind, tuple(distances), codes["warn"], codes["refuse"])


def iter_scans(real: list[Path]) -> Iterator[tuple[str, Scan, Path]]:
    """All scans with their kind."""
    chests = []
    for number in range(PHANTOMS):
        scan = make_chest(FIRST_SEED + number)
        chests += [scan] if number < CHANGED else []
        yield LIKE, scan, Path("drawn")
    yield from ((FINER, make_chest(FIRST_SEED + PHANTOMS + number, None), Path("drawn")) for number in range(CHANGED))
    yield from ((kind, scan, Path("drawn")) for kind, scan in make_ood_scans(chests, CHANGED))
    for folder in real:
        for path in find_scans([folder]):
            try:
                yield f"real: {folder.name}", open_scan(path, raise_refused=False), path
            except RefusedScanError:
                continue


def summarize_kind(kind: str, told: list[OODResult], threshold: float) -> dict[str, Any]:
    """Figures of one kind by the first model."""
    distances = [one.distances[0] for one in told]
    far = [one for one in told if one.distances[0] > threshold]
    return {
        "kind": kind,
        "scans": len(told),
        "out_of_distribution": len(far),
        "of_them_with_no_other_finding": sum(not one.warning_codes and not one.refused for one in far),
        "refused_by_other_findings": sum(bool(one.refused) for one in told),
        "lowest": min(distances),
        "median": statistics.median(distances),
        "highest": max(distances),
        "other_codes": sorted({code for one in told for code in (*one.warning_codes, *one.refused)}),
    }


def compare_models(told: list[OODResult], thresholds: list[float], place: int) -> dict[str, float]:
    """How another file of the same network differs from the first, as parts of the threshold."""
    both = [one for one in told if len(one.distances) > place]
    moved = [abs(one.distances[place] - one.distances[0]) / thresholds[0] for one in both if one.kind == LIKE]
    sides = [(one.distances[place] > thresholds[place]) != (one.distances[0] > thresholds[0]) for one in both]
    figures = {"median": statistics.median(moved), "largest": max(moved)}
    return {**figures, "scans": len(both), "other_verdicts": sum(sides)}


def measure_cost(file: ModelFile) -> Samples:
    """Runs of a file with and without the output, in turn."""
    given = onnx.ModelProto.FromString(file.data)
    bare = onnx.ModelProto.FromString(file.data)
    (node,) = [node for node in bare.graph.node if POOLED_OUTPUT in node.output]
    (output,) = [value for value in bare.graph.output if value.name == POOLED_OUTPUT]
    bare.graph.node.remove(node)
    bare.graph.output.remove(output)
    volume = make_phantom_volume(1, file.contract.shape).reshape(1, *file.contract.input_shape)
    sessions = {name: open_session(proto.SerializeToString()) for name, proto in (("with", given), ("without", bare))}
    return measure_interleaved({name: partial(run_session, one, volume) for name, one in sessions.items()}, ROUNDS)


def main() -> None:
    """Ask, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path, help="the shipped one if none is named")
    parser.add_argument("--real", type=Path, nargs="+", default=[], help="folders of real scans")
    given = parser.parse_args()
    files = [load_model_file(path) for path in given.models or [default_model_path()]]
    with ExitStack() as stack:
        judge = OODEvaluator([stack.enter_context(Runner(file, SessionRequest("cpu"))) for file in files])
        told = [judge.evaluate(kind, scan, path) for kind, scan, path in iter_scans(given.real)]
    thresholds = [known.threshold for known in judge.known if known]
    kinds: dict[str, list[OODResult]] = defaultdict(list)
    for one in told:
        kinds[one.kind].append(one)
    rows = [summarize_kind(kind, ones, thresholds[0]) for kind, ones in kinds.items()]
    for each in rows:
        print(
            f"{each['kind']:24}{each['scans']:4} scans, told {each['out_of_distribution']:3} (alone "
            f"{each['of_them_with_no_other_finding']:3}), refused otherwise {each['refused_by_other_findings']:3}; "
            f"{each['lowest']:.2f} {each['median']:.2f} {each['highest']:.2f}; {' '.join(each['other_codes'])}"
        )
    others = {file.path.name: compare_models(told, thresholds, place) for place, file in enumerate(files) if place}
    for name, difference in others.items():
        print(f"{name}: {difference}")
    print(f"threshold {thresholds[0]}; a distance takes {statistics.median(judge.milliseconds):.3f} ms")
    samples = measure_cost(files[0])
    pairs = zip(samples.counted["with"], samples.counted["without"], strict=True)
    print(f"time with the output over without: {statistics.median(a / b for a, b in pairs):.3f}")
    conditions = {
        "models": {file.path.name: {"sha256": file.sha256, "arithmetic": file.arithmetic} for file in files},
        "thresholds": thresholds,
        "shape": list(SHAPE),
        "first_seed": FIRST_SEED,
        "kinds": rows,
        "other_files": others,
        "distance_ms": statistics.median(judge.milliseconds),
    }
    question = "Scans that the model was not made for, and scans that it was: which are told"
    save_record(BenchRecord(question, describe_machine(PACKAGES), conditions, {}, samples), "distribution")


if __name__ == "__main__":
    main()
