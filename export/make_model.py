"""Follow a recipe: phantoms, training in stages, test on fresh phantoms, export, manifest and card.

    python export/make_model.py export/phantom-cnn.toml [--work DIR]

Everything is seeded; the same recipe gives the same model on the same machine. Stages that are already in the
work folder are not trained again.
"""

import argparse
import json
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from scipy import stats
from sklearn import metrics

from ct3d_edge.atomic import atomic_file
from ct3d_edge.conversion import MINIMUM_VOLUMES, Exported, export_model, load_source
from ct3d_edge.datasets import synthesise
from ct3d_edge.preprocess import preprocess
from ct3d_edge.runtime import Runner
from ct3d_edge.scan import read_nifti
from ct3d_edge.training import EpochDone, Event, train

MODELS = Path(__file__).parents[1] / "models"
CARD = Path(__file__).parent / "card.md"
BOOTSTRAP_SEED = 0

VALIDATION = 0.15
"""Phantoms cost nothing but training on them does: a smaller share than real scans would need."""


@dataclass(frozen=True)
class Phantoms:
    """A set of phantoms."""

    phantoms: int
    seed: int
    shape: tuple[int, int, int]

    def make(self, place: Path) -> Path:
        """Write them under ``place`` unless they are there; the folder with the two classes."""
        if not place.is_dir():
            synthesise(place, self.phantoms, self.seed, shape=self.shape)
        return place / "scans"


@dataclass(frozen=True)
class Stage:
    """Training at one input size."""

    data: Phantoms
    size: tuple[int, int, int]
    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> Self:
        """Parse one ``[[stage]]``."""
        settings = {name: table[name] for name in ("epochs", "batch_size", "learning_rate", "momentum")}
        return cls(phantoms(table), tuple(table["size"]), **settings)


def phantoms(table: dict[str, Any]) -> Phantoms:
    """Parse what a stage and the test have in common."""
    return Phantoms(table["phantoms"], table["seed"], tuple(table["shape"]))


def train_stages(stages: list[Stage], work: Path) -> Path:
    """Train each stage from the weights of the one before; the last run's folder."""
    initial = None
    run = work
    for number, stage in enumerate(stages, start=1):
        run = work / f"run-{number}"
        if not (run / "model.keras").is_file():
            folder = stage.data.make(work / f"phantoms-{stage.data.seed}")
            train(
                folder,
                run,
                size=stage.size,
                epochs=stage.epochs,
                batch_size=stage.batch_size,
                learning_rate=stage.learning_rate,
                momentum=stage.momentum,
                validation=VALIDATION,
                seed=number,
                initial=initial,
                on_progress=show,
            )
        initial = run / "model.keras"
    return run


def show(event: Event) -> None:
    """One line an epoch."""
    if isinstance(event, EpochDone):
        record = event.record
        print(
            f"epoch {record.epoch}/{event.epochs}  loss {record.loss:.4f}  val_loss {record.val_loss:.4f}  "
            f"val_accuracy {record.val_accuracy:.3f}  {record.seconds:.0f} s",
            flush=True,
        )


def test(exported: Exported, folder: Path) -> dict[str, Any]:
    """Area under the ROC curve on fresh phantoms, with a 95 % bootstrap interval, and accuracy."""
    scans = sorted(folder.rglob("*.nii.gz"))
    truth = np.array([path.parent.name == "abnormal" for path in scans], float)
    with Runner(exported.model, "cpu") as runner:
        scores = np.array(
            [runner.infer(preprocess(read_nifti(scan), runner.contract).volume[None])[0, 1] for scan in scans]
        )
    interval = stats.bootstrap(
        (truth, scores), auc, paired=True, vectorized=False, method="percentile", rng=BOOTSTRAP_SEED
    ).confidence_interval
    return {
        "phantoms": len(scans),
        "auc": auc(truth, scores),
        "auc_95": [float(interval.low), float(interval.high)],
        "accuracy": float(metrics.accuracy_score(truth, scores >= exported.model.contract.threshold)),
    }


def auc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve; 0.5 for a resample that holds one class only."""
    return float(metrics.roc_auc_score(truth, scores)) if 0 < truth.sum() < len(truth) else 0.5


def publish(recipe: dict[str, Any], exported: Exported, figures: dict[str, Any], hours: float) -> None:
    """Write the manifest and fill in the card."""
    model = exported.model
    entry = {
        "file": model.path.name,
        "sha256": model.sha256,
        "contract": json.loads(model.contract.to_json()),
        "contract_sha256": model.contract.sha256,
        "proof": model.provenance["proof"],
        "test": figures,
        "recipe": recipe,
        "hours": round(hours, 2),
    }
    manifest = {"schema": 1, "default": model.path.name, "models": [entry]}
    low, high = figures["auc_95"]
    card = CARD.read_text().format(
        file=model.path.name,
        megabytes=f"{len(model.data) / 1e6:.1f}",
        trained=sum(stage["phantoms"] for stage in recipe["stage"]),
        tested=figures["phantoms"],
        auc=f"{figures['auc']:.3f} (95 % bootstrap interval {low:.3f} to {high:.3f})",
        accuracy=f"{figures['accuracy']:.3f}",
        proof=exported.proof.describe(),
        hours=f"{hours:.1f}",
        recipe=f"export/{recipe['name']}.toml",
    )
    for name, text in (("manifest.json", json.dumps(manifest, indent=1) + "\n"), ("README.md", card)):
        with atomic_file(MODELS / name) as stream:
            stream.write(text.encode())


def main() -> None:
    """Follow the recipe named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--work", type=Path, default=Path("build/models"), help="for phantoms and runs")
    arguments = parser.parse_args()
    recipe = tomllib.loads(arguments.recipe.read_text())
    work = arguments.work / recipe["name"]
    work.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    run = train_stages([Stage.from_table(table) for table in recipe["stage"]], work)
    source = load_source(run, labels=recipe["export"]["labels"])
    folder = phantoms(recipe["test"]).make(work / "phantoms-test")
    proof_scans = sorted(folder.rglob("*.nii.gz"))[:: max(1, recipe["test"]["phantoms"] // MINIMUM_VOLUMES)]
    exported = export_model(
        source,
        MODELS / f"{recipe['name']}.onnx",
        (preprocess(read_nifti(scan), source.contract).volume for scan in proof_scans),
        material=f"{len(proof_scans)} of the test phantoms",
    )
    figures = test(exported, folder)
    print(f"test: {figures}")
    publish(recipe, exported, figures, (time.monotonic() - started) / 3600)


if __name__ == "__main__":
    main()
