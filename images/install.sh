#!/bin/sh
# Makes /opt/venv from lock files, for the build stage of every image: install.sh LOCK... [-- OPTION_OF_PIP...]
# Wheels only, so no compiler is needed; pip stays outside, and the packages' own tests are left out. What else goes: slim.py.
# /wheelhouse may hold wheels that no index has; /run/secrets/ca may hold the certificate of a company's proxy.
set -eu

python3 -m venv --without-pip /opt/venv
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  cat "$1" >>/tmp/all.lock
  shift
done
[ $# -eq 0 ] || shift
if [ -f /run/secrets/ca ]; then
  export PIP_CERT=/run/secrets/ca
fi
pip --python /opt/venv/bin/python install --quiet --no-cache-dir --no-deps --only-binary :all: --find-links /wheelhouse \
  --requirement /tmp/all.lock "$@"
find /opt/venv -type d -name tests -prune -exec rm -rf {} +
