#!/bin/sh
# Writes the locks from pyproject.toml: versions, markers and hashes, and no address. Needs uv; nobody else does.
set -eu
cd "$(dirname "$0")/.."
lock() { uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate "$@"; }
lock pyproject.toml --group lint --group test --group servers --group build --output-file requirements/dev.lock
lock pyproject.toml --constraint requirements/dev.lock --group build --output-file requirements/broker.lock
