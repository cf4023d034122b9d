"""Manifests of the image: what they say of commands, options and versions is true."""

import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ct3d_edge.cli.app import load_command
from ct3d_edge.cli.config_file import parse_value

CONTAINER = Path(__file__).parents[2] / "container"


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((CONTAINER / name).read_text())
    return content


def job_options() -> set[str]:
    return {option for parameter in load_command("job").params for option in parameter.opts}


def test_all_files_name_this_version() -> None:
    recipe = (CONTAINER / "Containerfile").read_text()
    assert re.findall(r"ARG VERSION=(\S+)", recipe) == [version("ct3d-edge")]
    assert {read(name)["version"] for name in ("app.json", "pkg.json")} == {version("ct3d-edge")}


def test_manifests_hold_what_map_requires() -> None:
    app, package = read("app.json"), read("pkg.json")
    required = {"apiVersion", "command", "environment", "input", "output", "timeout", "version", "workingDirectory"}
    assert required <= set(app)
    assert {"apiVersion", "applicationRoot", "modelRoot", "models", "resources", "version"} <= set(package)
    assert set(package["resources"]) == {"cpu", "gpu", "memory", "gpuMemory"}
    recipe = (CONTAINER / "Containerfile").read_text()
    assert f"HOLOSCAN_INPUT_PATH={app['workingDirectory']}{app['input']['path']}" in recipe
    assert f"HOLOSCAN_OUTPUT_PATH={app['workingDirectory']}{app['output']['path']}" in recipe
    assert f"HOLOSCAN_MODEL_PATH={package['modelRoot']}" in recipe


def test_no_manifest_lies_where_mercure_would_run_the_image_as_root() -> None:
    instructions = [
        line
        for name in ("Containerfile", "install.sh")
        for line in (CONTAINER / name).read_text().splitlines()
        if not line.startswith("#")
    ]
    assert "etc/monai" not in "\n".join(instructions)


def test_kaapana_is_told_of_options_that_exist() -> None:
    (template,) = read("processing-container.json")["templates"]
    program, command, *arguments = template["command"]
    assert (program, command) == ("ct3d-edge", "job")
    assert {argument for argument in arguments if argument.startswith("--")} <= job_options()
    paths = {template["inputs"][0]["mounted_path"], template["outputs"][0]["mounted_path"]}
    assert paths < set(arguments)
    parameters = {f"CT3D_EDGE_JOB_{parameter.name.upper()}": parameter for parameter in load_command("job").params}
    for variable in template["env"]:
        parameter = parameters[variable["name"]]
        for choice in variable.get("choices", ()):
            assert parse_value(load_command("job"), parameter, choice, Path()) == choice
        assert str(parameter.default).lower() == variable["value"]
