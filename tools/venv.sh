#!/bin/sh
# Builds or renews .venv for one set of packages: `tools/venv.sh broker` or `tools/venv.sh dev`.
# Chooses the interpreter; tools/venv.py does the rest. A current .venv costs one interpreter start and no network.
set -eu
cd "$(dirname "$0")/.."

works() { # a pyenv shim answers to `command -v` and still has nothing to run
    "$1" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

if [ -n "${PYTHON:-}" ]; then
    works "$PYTHON" || {
        echo "PYTHON=$PYTHON does not run, or is older than Python 3.11." >&2
        exit 1
    }
    exec "$PYTHON" -I tools/venv.py "$1"
fi

if [ -x .venv/bin/python ] && works .venv/bin/python; then
    exec .venv/bin/python -I tools/venv.py "$1"
fi

for candidate in python3.14 python3.13 python3.12 python3.11 python3 python; do
    if works "$candidate"; then
        exec "$candidate" -I tools/venv.py "$1"
    fi
done

echo "Jobkey needs Python 3.11 or newer, and none on PATH runs." >&2
echo "Install one (Debian: apt-get install python3 python3-venv), or name it: make PYTHON=/path/to/python3.12 ..." >&2
exit 1
