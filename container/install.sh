#!/bin/sh
# Installs ct3d-edge from a folder of wheels, its model and the manifests beside this script; what the Containerfile runs.
# `ROOT=/folder` puts everything below a folder, for a root file system that is not running.
set -eu
wheels=$1
here=$(dirname "$0")
root=${ROOT:-}

python3 -m venv --copies "$root/opt/holoscan/app"
"$root/opt/holoscan/app/bin/python" -m pip install --quiet --no-cache-dir --disable-pip-version-check \
    --no-index --find-links "$wheels" "ct3d-edge[dicom]"

mkdir -p "$root/opt/holoscan/models/ct3d-edge" "$root/etc/holoscan" "$root/var/holoscan"
model=$("$root/opt/holoscan/app/bin/python" -c \
    "from ct3d_edge.modelfile.model_file import default_model_path; print(default_model_path())")
cp "$model" "$root/opt/holoscan/models/ct3d-edge/model.onnx"
cp "$here/app.json" "$here/pkg.json" "$root/etc/holoscan/"
cp "$here/processing-container.json" "$root/"
chmod -R a+rX "$root/opt/holoscan" "$root/etc/holoscan" "$root/processing-container.json"
