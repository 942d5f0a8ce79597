"""Pipeline and PipelineVersion resources, for a Kubeflow that keeps its pipelines in the Kubernetes API."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import yaml

from components.core.errors import InputError
from pipelines.packages.compile import package_digest

LABELS = {"app.kubernetes.io/part-of": "tutorloop", "app.kubernetes.io/component": "pipeline"}
# A Pipeline owns its versions, and a recurring run may stay with one: what Git no longer names must not go by itself.
KEPT = {"argocd.argoproj.io/sync-options": "Prune=false", "kustomize.toolkit.fluxcd.io/prune": "disabled"}
WAVES = {"Pipeline": "0", "PipelineVersion": "1"}
"""A version is refused before its pipeline exists."""


def native_manifests(package_text: str, pipeline_name: str, namespace: str) -> str:
    """The resources of a compiled package, as YAML.

    A version's contents cannot change, so that its name follows from them; ``tutorloop sync`` gives its uploads the same names.

    Args:
        package_text: The compiled package.
        pipeline_name: Name of the pipeline.
        namespace: Where Kubeflow looks for pipelines.

    Raises:
        InputError: No compiled package.
    """
    from kfp import components
    from kfp.compiler import Compiler, KubernetesManifestOptions

    options = KubernetesManifestOptions(
        pipeline_name=pipeline_name,
        pipeline_version_name=f"{pipeline_name}-{package_digest(package_text)[:12]}",
        namespace=namespace,
        include_pipeline_manifest=True,
    )
    with tempfile.TemporaryDirectory(prefix="tutorloop-") as scratch:
        path = Path(scratch) / "manifests.yaml"
        try:
            pipeline = components.load_component_from_text(package_text)
        except Exception as error:
            raise InputError(f"not a compiled pipeline: {error}", pipeline_name, hint="compile it with `tutorloop release`") from error
        Compiler().compile(pipeline, str(path), kubernetes_manifest_format=True, kubernetes_manifest_options=options)
        resources: list[dict[str, Any]] = list(yaml.load_all(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    for resource in resources:
        resource["metadata"]["labels"] = {**LABELS, "app.kubernetes.io/name": pipeline_name}
        resource["metadata"]["annotations"] = {"argocd.argoproj.io/sync-wave": WAVES[resource["kind"]], **KEPT}
    return yaml.safe_dump_all(resources, sort_keys=True)
