"""Follow a recipe: phantoms, training in stages, export with parity check, test on fresh phantoms, manifest and card.

    python export/make_model.py export/phantom-cnn.toml [--work DIR] [--draw N]

Everything is seeded. Stages that are already in the work folder are not trained again; an interrupted one goes on.
``--draw`` trains once more with other weights, order and augmentation, to see how far the figures depend on them.
"""

import argparse
import csv
import hashlib
import json
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from ct3d_edge.conversion.export import export_model
from ct3d_edge.conversion.graph_variant import CompileOptions
from ct3d_edge.conversion.keras_loader import load_keras_source
from ct3d_edge.conversion.parity.parity_data import ParityDataset
from ct3d_edge.conversion.parity.parity_report import MIN_PARITY_VOLUMES
from ct3d_edge.conversion.write_model import CompileResult
from ct3d_edge.datasets.phantoms.phantom import synthesise
from ct3d_edge.evaluation.compare_models import compare_models, record_evidence
from ct3d_edge.evaluation.comparison_report import comparison_summary
from ct3d_edge.evaluation.evaluation import Evaluation, evaluate
from ct3d_edge.evaluation.report import summary
from ct3d_edge.inference.config import InferenceConfig
from ct3d_edge.modelfile.comparison_evidence import ComparisonEvidence
from ct3d_edge.modelfile.model_file import ModelFile
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.quality_control.reference_stats import describe_range
from ct3d_edge.scan.loader import open_scan
from ct3d_edge.system.atomic_write import atomic_file
from ct3d_edge.system.machine import count_usable_cores
from ct3d_edge.training.artifacts import SPLIT
from ct3d_edge.training.fit import train
from ct3d_edge.training.history import EpochDone
from ct3d_edge.training.network import TUTORIAL, Network, find_network
from ct3d_edge.training.presets import PRESETS, Preset

MODELS_DIR = Path(__file__).parents[1] / "models"
CARD_TEMPLATE = Path(__file__).parent / "card.md"
INDEX_TEMPLATE = Path(__file__).parent / "index.md"

VALIDATION_SHARE = 0.15
"""Phantoms cost nothing but training on them does: a smaller share than real scans would need."""


@dataclass(frozen=True)
class PhantomSet:
    """A set of phantoms."""

    count: int
    seed: int
    shape: tuple[int, int, int]

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> Self:
        """Parse what a stage and the test have in common."""
        return cls(table["phantoms"], table["seed"], tuple(table["shape"]))

    def synthesise(self, work: Path) -> Path:
        """Write them under ``work`` unless they are there, all or none; the folder with the two classes."""
        size = "x".join(map(str, self.shape))
        place = work / f"phantoms-{self.seed}-{self.count}-{size}"
        if not place.is_dir():
            part = place.with_suffix(".part")
            synthesise(part, self.count, self.seed, shape=self.shape)
            part.rename(place)
        return place / "scans"


@dataclass(frozen=True)
class TrainingStage:
    """Training at one input size."""

    data: PhantomSet
    size: tuple[int, int, int]
    preset: Preset

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> Self:
        """Parse one ``[[stage]]``."""
        changes = {name: table[name] for name in ("epochs", "batch_size", "learning_rate")}
        return cls(PhantomSet.from_table(table), tuple(table["size"]), replace(PRESETS[table["preset"]], **changes))


DRAW_STRIDE = 100
"""Between the seeds of two draws: more than a recipe has stages."""


def train_stages(network: Network, stages: list[TrainingStage], work: Path, draw: int = 0) -> list[Path]:
    """Train each stage from the weights of the one before; the runs' folders."""
    runs: list[Path] = []
    for number, stage in enumerate(stages, start=1):
        # Named after everything that led to it, so that a changed recipe never takes up an old run.
        origin = repr([*([] if network == TUTORIAL else [network]), *stages[:number], *([draw] if draw else [])])
        run = work / f"run-{number}-{hashlib.sha256(origin.encode()).hexdigest()[:12]}"
        if not (run / "model.keras").is_file():
            train(
                stage.data.synthesise(work),
                run,
                stage.preset,
                network=network,
                size=stage.size,
                validation=VALIDATION_SHARE,
                seed=number + draw * DRAW_STRIDE,
                initial=runs[-1] / "model.keras" if runs else None,
                resume=(run / SPLIT).is_file(),
                on_epoch=print_epoch,
            )
        runs.append(run)
    return runs


def sum_training_hours(runs: list[Path]) -> float:
    """Time that the epochs took, from the runs' histories."""
    seconds = 0.0
    for run in runs:
        with (run / "history.csv").open(newline="") as stream:
            seconds += sum(float(row["seconds"]) for row in csv.DictReader(stream))
    return seconds / 3600


def print_epoch(event: EpochDone) -> None:
    """One line an epoch."""
    record = event.record
    print(
        f"epoch {record.epoch}/{event.epochs}  loss {record.loss:.4f}  val_loss {record.val_loss:.4f}  "
        f"val_accuracy {record.val_accuracy:.3f}  {record.seconds:.0f} s",
        flush=True,
    )


@dataclass(frozen=True)
class Release:
    """A model with everything that its card says."""

    recipe: dict[str, Any]
    stages: list[TrainingStage]
    runs: list[Path]
    exported: CompileResult
    tested: Evaluation

    def write(self) -> None:
        """Put model and card into ``models/``, and the model into the manifest and the index of all cards."""
        model = self.exported.model
        manifest = json.loads((MODELS_DIR / "manifest.json").read_text())
        others = [other for other in manifest["models"] if other["file"] != model.path.name]
        manifest["models"] = sorted([*others, self.manifest_entry()], key=lambda one: str(one["file"]))
        contents = {
            model.path.name: model.data,
            "manifest.json": (json.dumps(manifest, indent=1) + "\n").encode(),
            f"{self.recipe['name']}.md": self.card().encode(),
        }
        for name, data in contents.items():
            with atomic_file(MODELS_DIR / name) as stream:
                stream.write(data)
        write_index(manifest)

    def manifest_entry(self) -> dict[str, Any]:
        """What programs read."""
        model = self.exported.model
        return {
            "file": model.path.name,
            "sha256": model.sha256,
            "keras_sha256": model.provenance["source"]["sha256"],
            # Without the thousands of numbers of the feature statistics; the hash is that of the whole.
            "contract": json.loads(replace(model.contract, feature_statistics=None).to_json()),
            "contract_sha256": model.contract.sha256,
            "proof": model.provenance["proof"],
            "test": self.tested.to_dict()["figures"],
            "recipe": self.recipe,
            "training_hours": round(sum_training_hours(self.runs), 2),
            "cores": count_usable_cores(),
        }

    def card(self) -> str:
        """What people read."""
        model, auc = self.exported.model, self.tested.figures.auc
        contract = model.contract
        return CARD_TEMPLATE.read_text().format(
            file=model.path.name,
            network=self.recipe["network_description"],
            parameters=f"{model.provenance['source']['parameters']:,}",
            size=" x ".join(map(str, contract.shape)),
            megabytes=f"{len(model.data) / 1e6:.1f}",
            threshold=f"{contract.threshold:.3g}",
            temperature=f"{contract.temperature:.3g}",
            range="not recorded" if contract.training_range is None else describe_range(contract.training_range),
            trained=sum(data.count for data in {stage.data for stage in self.stages}),
            stages=len(self.stages),
            cores=count_usable_cores(),
            tested=len(self.tested.scans),
            figures="\n".join(summary(self.tested)),
            auc=f"{auc.value:.3f} (95 % {auc.low:.3f} to {auc.high:.3f})",
            comparison=describe_comparison(model),
            parity=self.exported.parity.describe(),
            hours=f"{sum_training_hours(self.runs):.1f}",
            recipe=f"export/{self.recipe['name']}.toml",
        )


def write_index(manifest: dict[str, Any]) -> None:
    """Write ``models/README.md``: a row for each model in the manifest."""
    rows = []
    for entry in manifest["models"]:
        name, auc = entry["recipe"]["name"], entry["test"]["auc"]
        default = "yes" if entry["file"] == manifest["default"] else ""
        rows.append(
            f"| [{entry['file']}]({name}.md) | {entry['recipe'].get('network', TUTORIAL.name)} | "
            f"{(MODELS_DIR / entry['file']).stat().st_size / 1e6:.1f} MB | "
            f"{auc['value']:.3f} ({auc['low']:.3f} to {auc['high']:.3f}) | {sum(entry['test']['scans'])} | {default} |"
        )
    with atomic_file(MODELS_DIR / "README.md") as stream:
        stream.write(INDEX_TEMPLATE.read_text().format(rows="\n".join(rows)).encode())


def record_comparison(run: Path, reference: Path, folder: Path) -> None:
    """Compare a run with an earlier model on the test phantoms; files that are exported from the run hold it."""
    comparison = compare_models(run, reference, folder, config=InferenceConfig("cpu"))
    print("\n".join(comparison_summary(comparison)))
    record_evidence(comparison, run)


def describe_comparison(model: ModelFile) -> str:
    """A row of the card, for a file with a comparison."""
    data = model.provenance.get("comparison")
    if data is None:
        return ""
    return f"\n| Comparison | {ComparisonEvidence.from_dict(data, str(model.path)).describe()} |"


def export_and_evaluate(recipe: dict[str, Any], run: Path, work: Path) -> tuple[CompileResult, Evaluation]:
    """Export with a parity check on some of the test phantoms, and evaluate the file itself on all of them."""
    source = load_keras_source(run, labels=recipe["export"]["labels"])
    folder = PhantomSet.from_table(recipe["test"]).synthesise(work)
    if "against" in recipe["test"]:
        record_comparison(run, MODELS_DIR / recipe["test"]["against"], folder)
    scans = sorted(folder.rglob("*.nii.gz"))
    chosen = scans[:: max(1, len(scans) // MIN_PARITY_VOLUMES)]
    exported = export_model(
        source,
        work / f"{recipe['name']}.onnx",
        ParityDataset(
            [preprocess(open_scan(scan), source.contract).volume for scan in chosen],
            f"{len(chosen)} of the test phantoms",
            scans=0,
        ),
        options=CompileOptions(gradcam_output=recipe["export"]["explain"]),
    )
    return exported, evaluate(exported.model.path, folder, config=InferenceConfig("cpu"))


def main() -> None:
    """Follow the recipe named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--work", type=Path, default=Path("build/models"), help="for phantoms and runs")
    parser.add_argument("--draw", type=int, default=0, help="other seeds of the training; its model is not published")
    arguments = parser.parse_args()
    recipe = tomllib.loads(arguments.recipe.read_text())
    work = arguments.work / recipe["name"]
    work.mkdir(parents=True, exist_ok=True)
    stages = [TrainingStage.from_table(table) for table in recipe["stage"]]
    runs = train_stages(find_network(recipe.get("network", TUTORIAL.name)), stages, work, arguments.draw)
    exported, tested = export_and_evaluate(recipe, runs[-1], work)
    print("\n".join(summary(tested)))
    if arguments.draw:
        return
    if tested.figures.auc.value < recipe["test"]["least_auc"]:
        raise SystemExit(f"AUC below {recipe['test']['least_auc']}: nothing was put into {MODELS_DIR}")
    Release(recipe, stages, runs, exported, tested).write()


if __name__ == "__main__":
    main()
