"""An example of each command, which its help shows."""

EXAMPLES = {
    "": "ct3d-edge infer scans --out results.jsonl",
    "infer": "ct3d-edge infer scans --out results.jsonl --report report.html",
    "watch": "ct3d-edge watch incoming --out results.jsonl",
    "check": "ct3d-edge check scans --json",
    "preprocess": "ct3d-edge preprocess scans --out inputs",
    "view": "ct3d-edge view scans/chest.nii.gz --out slices.png",
    "train": "ct3d-edge train scans --split split.json --out run",
    "evaluate": "ct3d-edge evaluate --model run scans --split split.json",
    "calibrate": "ct3d-edge calibrate --model run scans --rule sensitivity=0.95",
    "export": "ct3d-edge export --model run --out model.onnx",
    "optimize": "ct3d-edge optimize --model old.onnx --out new.onnx --optimize fast",
    "tune": "ct3d-edge tune --model model.onnx --memory-budget 150MB",
    "inspect": "ct3d-edge inspect --model model.onnx",
    "verify": "ct3d-edge verify --model model.onnx --provider cpu",
    "build": "ct3d-edge build --provider tensorrt --model model.onnx",
    "doctor": "ct3d-edge doctor",
    "bench": "ct3d-edge bench --scans scans --runs 100 --json bench.json",
    "bench compare": "ct3d-edge bench compare old.json new.json --fail-if 'p50 > +5%'",
    "bench history": "ct3d-edge bench history records --plot trend.png",
    "bench show": "ct3d-edge bench show bench.json --html bench.html",
    "data": "ct3d-edge data synth --out phantoms --scans 6",
    "data split": "ct3d-edge data split scans --out split.json",
    "data synth": "ct3d-edge data synth --out phantoms --scans 120 --shape 128 128 32",
    "data fetch": "ct3d-edge data fetch mosmed --out mosmed",
}


def example(command: str) -> str:
    """The example of a command, as the end of its help."""
    return f"Example: {EXAMPLES[command]}"
