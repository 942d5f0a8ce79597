#!/bin/sh
# Makes the base image of our Dockerfiles from Debian packages, under its upstream tag, where no registry can be reached.
# Needs mmdebstrap and docker; does nothing when the image is there or can be pulled.
set -eu

image=${1:-python:3.11-slim-bookworm}
if docker image inspect "$image" >/dev/null 2>&1 || timeout 60 docker pull --quiet "$image" >/dev/null 2>&1; then
  exit 0
fi
echo "making $image from Debian packages" >&2
mmdebstrap --quiet --variant=essential --mode=root --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
  --include=usr-is-merged,libstdc++6,python3,python3-pip,python3-venv,ca-certificates \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  bookworm - | docker import --change 'CMD ["python3"]' - "$image" >/dev/null
