"""README of a model repository: how the server is started, how it is called, what it answers."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ct3d_edge.contract import Contract
from ct3d_edge.modelfile.model_file import ModelFile

START = {
    "triton": "docker run --rm -p 8000:8000 -v $PWD:/models IMAGE tritonserver --model-repository=/models",
    "ovms": "docker run --rm -p 8000:8000 -v $PWD:/models IMAGE --config_path /models/config.json --rest_port 8000",
    "kserve": "kubectl apply -f inferenceservice.yaml   # after setting storageUri to where this folder is",
}

PORT = {"triton": "localhost:8000", "ovms": "localhost:8000", "kserve": "HOST"}


def format_readme(server: str, name: str, file: ModelFile, header: Mapping[str, Any], expected: Sequence[float]) -> str:
    """The text, with a request that works as it stands: the golden input of the file, and its output."""
    tensors = " ".join(f"{name}/warmup/{each['name']}" for each in header["inputs"])
    length = len(json.dumps(header))
    values = ", ".join(f"{value:.6f}" for value in expected)
    return f"""# {name}

Model file {file.sha256[:16]}... with contract {file.contract.sha256[:16]}..., for {server}. Not for clinical use.

Start: `{START[server]}`

A request with the golden input of the model file, in the binary form of the Open Inference Protocol:

```
cat {name}/warmup/request.json {tensors} | \\
  curl -s --data-binary @- -H "Inference-Header-Content-Length: {length}" \\
  http://{PORT[server]}/v2/models/{name}/infer
```

`data` of the output `{file.output_name}` is {values} on the machine that wrote this folder. Another value (beyond
{file.golden.tolerance:g}) means that the server does not compute this model.

{_describe_interface(file.contract, file.stored_voxels, file.output_name)}
Quality checks (HU, orientation, missing slices) are not in the file: run `ct3d-edge check` before, or use
`ct3d-edge infer` or `ct3d-edge serve`, which check each scan.
"""


def _describe_interface(contract: Contract, stored_voxels: bool, output: str) -> str:
    labels = ", ".join(contract.labels)
    if stored_voxels:
        return (
            f"`voxels` is the scan as stored, int16 (slices, rows, columns), orientation {contract.orientation};\n"
            "HU = voxels * slope + intercept. Preprocessing, temperature and activation are inside;\n"
            f"`{output}` are the probabilities of {labels} (labels.txt).\n"
        )
    low, high = contract.hu_window
    return (
        f"The input is a preprocessed scan, float32 {contract.input_shape}: orientation {contract.orientation},\n"
        f"HU {low:g} to {high:g} scaled to 0..1, {contract.quarter_turns} turns by 90 degrees, resized linearly\n"
        f"(contract.json). `{output}` is the output of the network for {labels}; activation\n"
        f"'{contract.activation}', temperature {contract.temperature:g} and threshold {contract.threshold:g} are to "
        "be applied.\nA file exported with `--embed-preprocessing` needs none of this in the client.\n"
    )
