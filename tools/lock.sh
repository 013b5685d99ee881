#!/bin/sh
# Writes requirements.lock anew from pyproject.toml: pinned, with hashes, for every platform and Python from 3.11.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
.venv/bin/python -m venv "$work/uv"
"$work/uv/bin/python" -m pip install --quiet --disable-pip-version-check uv
"$work/uv/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
    --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
    pyproject.toml --group dev --output-file requirements.lock
