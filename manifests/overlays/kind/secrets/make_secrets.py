#!/usr/bin/env python3
"""Writes the secrets of the kind overlay as .env files beside this file, with random values.

``python3 manifests/overlays/kind/secrets/make_secrets.py [FOLDER]``: files that are there stay as they are, so that a cluster that runs
keeps its keys; delete them to make new ones. Needs nothing but Python.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

USERS = ("launcher", "store", "publisher", "uploader", "backup")
IN_KUBEFLOW = USERS[:3]
"""Users whose keys pods in the namespace kubeflow get, each in a secret of its own."""


def make(folder: Path) -> list[Path]:
    """Write what is missing.

    Args:
        folder: Where; must exist.

    Returns:
        The files that were written.
    """
    keys_file = folder / "minio-users.env"
    keys = _read(keys_file)
    for user in USERS:
        keys.setdefault(f"{user.upper()}_ACCESS_KEY", f"{user}-{secrets.token_hex(4)}")
        keys.setdefault(f"{user.upper()}_SECRET_KEY", secrets.token_urlsafe(30))
    files = {
        "minio-root": {"rootUser": f"root-{secrets.token_hex(4)}", "rootPassword": secrets.token_urlsafe(30)},
        "minio-users": keys,
        "teacher": {"api-key": secrets.token_urlsafe(24)},
        "mysql": {"username": "root", "password": secrets.token_urlsafe(24)},
    }
    for user in IN_KUBEFLOW:
        files[user] = {"accesskey": keys[f"{user.upper()}_ACCESS_KEY"], "secretkey": keys[f"{user.upper()}_SECRET_KEY"]}
    written = []
    for name, values in files.items():
        path = folder / f"{name}.env"
        if not path.exists() or (path == keys_file and _read(path) != values):
            _write(path, values)
            written.append(path)
    return written


def _read(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _write(path: Path, values: dict[str, str]) -> None:
    temporary = path.with_suffix(".env.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.writelines(f"{name}={value}\n" for name, value in values.items())
    temporary.replace(path)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent
    made = make(target)
    print("\n".join(f"wrote {path}" for path in made) or f"all secrets are in {target} already")
