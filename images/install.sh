#!/bin/sh
# Makes /opt/venv from lock files, for the build stage of every image: install.sh LOCK...
# Wheels only, so no compiler is needed; pip stays outside, and the packages' own tests are left out.
# /wheelhouse may hold wheels that no index has; /run/secrets/ca may hold the certificate of a company's proxy.
set -eu

for lock in "$@"; do
  shift
  set -- "$@" --requirement "$lock"
done
if [ -f /run/secrets/ca ]; then
  export PIP_CERT=/run/secrets/ca
fi
python3 -m venv --without-pip /opt/venv
pip --python /opt/venv/bin/python install --quiet --no-cache-dir --no-compile --no-deps --only-binary :all: --find-links /wheelhouse "$@"
find /opt/venv -type d -name tests -prune -exec rm -rf {} +
