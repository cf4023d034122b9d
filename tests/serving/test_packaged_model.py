"""A model repository written by ``ct3d-edge package`` gives in ``serve`` the output that its README documents."""

import json
import re
import subprocess
from pathlib import Path
from shutil import which
from typing import get_args

import pytest
from builders import MakeModel

from ct3d_edge.conversion.fused_io.fuse import fuse_io
from ct3d_edge.model_repository.package import ModelServer, package_model
from ct3d_edge.modelfile.model_file import load_model_file

from .conftest import Start


@pytest.mark.skipif(not which("curl"), reason="needs curl")
@pytest.mark.parametrize("embedded", [True, False], ids=["stored voxels", "network input"])
@pytest.mark.parametrize("target", get_args(ModelServer))
def test_the_request_of_the_readme_gives_the_output_of_the_readme(
    start: Start, make_model: MakeModel, tmp_path: Path, target: ModelServer, embedded: bool
) -> None:
    model = make_model()
    if embedded:
        model = tmp_path / "stored.onnx"
        model.write_bytes(fuse_io(load_model_file(make_model())).SerializeToString())
    package = package_model(model, tmp_path / "repository", target, name="lung")
    server = start(model=package.folder / "lung" / "1" / "model.onnx")
    readme = (package.folder / "README.md").read_text()
    (command,) = [block for block in re.findall(r"```\n(.*?)```", readme, re.DOTALL) if "curl" in block]
    command = re.sub(r"http://[^/]+/", f"{server.url}/", command)
    done = subprocess.run(["/bin/sh", "-c", command], cwd=package.folder, capture_output=True, check=True)
    answer = json.loads(done.stdout)
    assert answer["model_name"] == "lung"
    (output,) = answer["outputs"]
    documented = re.search(rf"`data` of the output `{output['name']}` is (\S[^a-z]*) on", readme)
    assert documented, readme
    assert output["data"] == pytest.approx([float(value) for value in documented[1].split(", ")], abs=1e-6)
    assert output["data"] == pytest.approx(package.expected, abs=1e-6)
