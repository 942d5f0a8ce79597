"""Pipelines as custom resources: the same names as a sync gives, the whole package, and nothing that Git's tools would prune."""

from __future__ import annotations

import pytest
import yaml

from components.core.errors import InputError
from pipelines.images.table import resolve
from pipelines.kubeflow.packages import read_package
from pipelines.packages.compile import COMPILED
from pipelines.packages.native import native_manifests
from tests.kubeflow.git import Git


def test_a_package_as_resources(git: Git) -> None:
    text = resolve((COMPILED / "orca_math.yaml").read_text())
    path = git.packages / "orca-math-tiny.yaml"
    path.write_text(text)
    documents = list(yaml.load_all(text, Loader=yaml.CSafeLoader))
    pipeline, version = yaml.load_all(native_manifests(text, "orca-math-tiny", "kubeflow"), Loader=yaml.CSafeLoader)
    assert (pipeline["kind"], version["kind"]) == ("Pipeline", "PipelineVersion")
    assert version["spec"]["pipelineName"] == pipeline["metadata"]["name"] == "orca-math-tiny"
    assert version["spec"]["pipelineSpec"] == documents[0] and version["spec"]["platformSpec"] == documents[1]
    assert version["metadata"]["name"] == read_package(path).version, "as a sync calls it"
    for resource, wave in ((pipeline, "0"), (version, "1")):
        assert resource["apiVersion"] == "pipelines.kubeflow.org/v2beta1" and resource["metadata"]["namespace"] == "kubeflow"
        annotations = resource["metadata"]["annotations"]
        assert annotations["argocd.argoproj.io/sync-wave"] == wave
        assert annotations["argocd.argoproj.io/sync-options"] == "Prune=false"
        assert annotations["kustomize.toolkit.fluxcd.io/prune"] == "disabled"


def test_what_is_no_package_is_told() -> None:
    with pytest.raises(InputError, match="not a compiled pipeline"):
        native_manifests("just text", "p", "kubeflow")
