#!/bin/sh
# Makes the base image of our Dockerfiles from Debian packages, under its upstream tag, where no registry can be reached.
# Needs mmdebstrap and docker; does nothing when the image is there or can be pulled.
set -eu

image=${1:-python:3.11-slim-bookworm}
if docker image inspect "$image" >/dev/null 2>&1 || timeout 300 docker pull --quiet "$image" >/dev/null 2>&1; then
  exit 0
fi
if ! command -v mmdebstrap >/dev/null; then
  echo "$image can neither be pulled nor made here: log in to a registry, or apt-get install mmdebstrap" >&2
  exit 1
fi
echo "making $image from Debian packages" >&2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mmdebstrap --quiet --variant=essential --mode=root --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
  --include=usr-is-merged,libstdc++6,python3,python3-pip,python3-venv,ca-certificates \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  bookworm "$folder/base.tar"
docker import --change 'CMD ["python3"]' "$folder/base.tar" "$image" >/dev/null
