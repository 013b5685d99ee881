#!/bin/sh
# Makes .venv, or brings it up to date with requirements.lock; quick when there is nothing to do.
# Needs Python 3.11 or later and PyPI, nothing else. PYTHON names an interpreter to use instead of the first that fits.
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }
fits() { "$1" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

stamp=.venv/.made-from
wanted=$(cat requirements.lock pyproject.toml tools/venv.sh | cksum)

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && fits .venv/bin/python; then
    exit 0
fi

python=
for name in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if fits "$name"; then python=$name && break; fi
done
if [ -z "$python" ]; then
    say "pgherd needs Python 3.11 or later, and found none (set PYTHON to name one)."
    say "On Debian 12 or Ubuntu 24.04: sudo apt-get install -y python3 python3-venv"
    exit 1
fi

# Debian and Ubuntu package the part that puts pip into a new environment by itself.
make_environment() {
    if "$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then
        "$python" -m venv --clear .venv
        return
    fi
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "Installing $package ..."
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package" >/dev/null
        "$python" -m venv --clear .venv
    elif "$python" -m pip --version >/dev/null 2>&1; then
        "$python" -m venv --clear --without-pip .venv
        "$python" -m pip --python .venv/bin/python install --quiet pip
    else
        say "This Python lacks its venv package. Install it, then run make again:"
        say "    sudo apt-get install -y $package"
        exit 1
    fi
}

if ! fits .venv/bin/python || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    say "Making .venv with $("$python" --version) ..."
    make_environment
fi
say "Installing what requirements.lock names into .venv ..."
rm -f "$stamp"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_USE_PEP517=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_INPUT=1
.venv/bin/python -m pip install --quiet --require-hashes -r requirements.lock
.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .
printf '%s' "$wanted" >"$stamp"
