#!/usr/bin/env bash
# Build the environment of the peers that `make bench` compares with: .venv-peers, separate and cached.
# taxim's torch back end needs torch-scatter, which has no wheel for current torch: a build of some minutes, which
# needs a C++ compiler. TORCH names the torch to install, as in the Makefile.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=.venv-peers
torch="${TORCH:-torch==2.13.0}"
marker="$folder/complete"
wanted="taxim==1.4.1 torchvision $torch"

if [ -f "$marker" ] && [ "$(cat "$marker")" = "$wanted" ]; then
    echo "$folder is ready."
    exit 0
fi
command -v c++ >/dev/null || { echo "error: torch-scatter needs a C++ compiler; install one, such as g++." >&2; exit 2; }
rm -rf "$folder"
"${PYTHON:-python3}" -m venv "$folder"
pip="$folder/bin/python -m pip install --quiet --disable-pip-version-check"
$pip "setuptools<81" wheel ninja numpy "$torch"
echo "Building torch-scatter (minutes) ..."
MAX_JOBS="${MAX_JOBS:-2}" FORCE_ONLY_CPU=1 $pip --no-build-isolation torch-scatter
# torchvision is one of taxim's imports that it does not declare.
$pip "$torch" torchvision taxim==1.4.1
echo "1 48 64 0.3 1" | "$folder/bin/python" benchmarks/taxim_peer.py 0.1 >/dev/null
echo "$wanted" >"$marker"
echo "$folder is ready."
