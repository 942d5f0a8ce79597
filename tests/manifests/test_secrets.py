"""No secret value is in Git: neither as a Secret nor hidden in anything else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.manifests import kustomize
from tests.manifests.conftest import Build
from tests.manifests.objects import read_yaml

KEY_LIKE = {
    "an AWS key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "an OpenAI key": r"\bsk-[A-Za-z0-9_-]{20,}",
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{20,}",
    "a GitHub token": r"\b(?:ghp|gho|ghs|github_pat)_[A-Za-z0-9_]{20,}",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a web token": r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}",
    "MinIO's well-known password": r"\bminio(?:123|admin)\b",
    "a password in an address": r"://[^/\s:@]+:[^/\s:@$<{]+@",
    "a value given to a secret's variable": (
        r"(?i)\b[A-Z_]*(?:PASSWORD|SECRET_KEY|SECRET_ACCESS_KEY|API_KEY|TOKEN)\b\s*[=:]\s*[\"']?[A-Za-z0-9+/_-]{8,}"
    ),
}


PACKAGES = {"packages", "native"}
"""Folders of a release that hold compiled pipelines."""


def _found(text: str) -> Iterator[str]:
    for what, pattern in KEY_LIKE.items():
        for match in re.finditer(pattern, text):
            yield f"{what}: {match[0][:12]}..."


def _files() -> list[Path]:
    # Compiled packages hold whole programs, in which such names are variables. Files that end in .env stay out of Git.
    files = (path for path in kustomize.MANIFESTS.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return [path for path in files if path.suffix != ".env" and path.parent.name not in PACKAGES]


def test_generated_secrets_stay_out_of_git() -> None:
    assert "*.env" in (kustomize.MANIFESTS / "overlays/kind/secrets/.gitignore").read_text().split()


def test_no_secret_value_is_in_the_files() -> None:
    found = [f"{path.relative_to(kustomize.MANIFESTS)}: {what}" for path in _files() for what in _found(path.read_text())]
    assert not found, "\n".join(found)


def test_no_file_declares_a_secret_with_data() -> None:
    for path in _files():
        if path.suffix not in (".yaml", ".yml"):
            continue
        for document in read_yaml(path.read_text()):
            if isinstance(document, dict) and document.get("kind") == "Secret":
                assert document.get("$patch") == "delete" or not {"data", "stringData"} & document.keys(), str(path)
            if isinstance(document, dict):
                for generator in document.get("secretGenerator") or []:
                    assert not generator.get("literals"), f"{path}: values of {generator['name']} are in Git"


def test_production_builds_without_a_secret(build: Build) -> None:
    # Those of Kubeflow that are left have to be known: their values are in everybody's copy of its manifests.
    assert [item["metadata"]["name"] for item in build("overlays/production").of("Secret")] == []


@pytest.mark.parametrize(
    "text",
    [
        "AKIAABCDEFGHIJKLMNOP",
        "key: sk-abcdefghijklmnopqrstuvwx",
        "password: minio123",
        "url: https://me:hunter22@example.com",
        "-----BEGIN RSA PRIVATE KEY-----",
        "MINIO_ROOT_PASSWORD=correcthorse",
        'rootPassword_TOKEN: "abcdefghijk"',
    ],
)
def test_a_secret_value_is_noticed(text: str) -> None:
    assert list(_found(text))


@pytest.mark.parametrize("text", ["{name: API_KEY, valueFrom: {}}", "https://example.com:443/a@b", "secretName: tutorloop-launcher"])
def test_a_name_is_no_value(text: str) -> None:
    assert not list(_found(text))
