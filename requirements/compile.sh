#!/bin/sh
# Writes the locks from pyproject.toml: versions, markers and hashes, and no address. Needs uv; nobody else does.
#   dev.lock     everything that tests, tools and the bench need
#   broker.lock  what runs in production, and nothing more: the image installs this
#   build.lock   what turns the source into an installed package
# The smaller ones take their versions from dev.lock. `requirements/compile.sh --upgrade` renews them all.
set -eu
cd "$(dirname "$0")/.."
lock() { uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate "$@"; }
lock "$@" pyproject.toml --group lint --group test --group servers --group build --output-file requirements/dev.lock
lock pyproject.toml --constraint requirements/dev.lock --output-file requirements/broker.lock
lock --group build --constraint requirements/dev.lock --output-file requirements/build.lock
