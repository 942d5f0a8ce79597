"""Settings of pods that Kubernetes refuses, or that Kubeflow reads otherwise than they look."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from pipelines.packages.checks.ir import Package, Task

_QUANTITY = re.compile(r"(\d+\.?\d*|\.\d+)(m|k|Ki|[MGTPE]i?)?")
_UNITS = {"": Decimal(1), "m": Decimal("0.001"), "k": Decimal(1000), "Ki": Decimal(1024)}
_UNITS |= {letter: Decimal(1000) ** power for power, letter in enumerate("MGTPE", 2)}
_UNITS |= {f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("MGTPE", 2)}
_PLACEHOLDER = re.compile(r"\{\{\$\.inputs\.parameters\[['\"](.+?)['\"]\]\}\}")
_RESOURCES = ("resourceCpuRequest", "resourceCpuLimit", "resourceMemoryRequest", "resourceMemoryLimit")


def quantity(text: str) -> Decimal | None:
    """A quantity of Kubernetes as a number; None if it is none."""
    match = _QUANTITY.fullmatch(text)
    return Decimal(match[1]) * _UNITS[match[2] or ""] if match else None


def accepted(package: Package) -> Iterator[str]:
    """Requests lie below limits, quantities are quantities, secrets may be missing, nobody is root, numbers come as text.

    Yields:
        Problems.
    """
    for task in package.all_tasks():
        container = package.container(task.component)
        if container is None:
            continue
        yield from _resources(package, task, container.get("resources", {}))
        settings = package.executors_on_kubernetes.get(task.component["executorLabel"], {})
        yield from _settings(task, settings)


def _resources(package: Package, task: Task, given: Mapping[str, Any]) -> Iterator[str]:
    accelerator = given.get("accelerator", {})
    for name, value in [*((name, given[name]) for name in _RESOURCES if name in given), *accelerator.items()]:
        if match := _PLACEHOLDER.fullmatch(str(value)):
            kind = package.parameter_type(task, match[1])
            if kind != "STRING":
                yield f"{task.where} takes {name} from '{match[1]}', a {kind}: Kubeflow reads only text there. Declare it a str."
        elif name in (*_RESOURCES, "resourceCount") and quantity(str(value)) is None:
            yield f"{task.where} has {name} '{value}', which is no quantity of Kubernetes: write for example 500m, 2 or 4Gi."
    for what in ("Cpu", "Memory"):
        request, limit = (quantity(str(given.get(f"resource{what}{kind}", ""))) for kind in ("Request", "Limit"))
        if request is not None and limit is not None and request > limit:
            yield f"{task.where} requests more {what.lower()} than its limit: Kubernetes refuses the pod. Raise the limit."


def _settings(task: Task, settings: Mapping[str, Any]) -> Iterator[str]:
    for secret in (*settings.get("secretAsEnv", []), *settings.get("configMapAsEnv", []), *settings.get("secretAsVolume", [])):
        if not secret.get("optional", False):
            name = secret.get("secretName") or secret.get("configMapName") or "a Secret"
            yield f"{task.where} cannot do without {name}: its pod would wait for it without a word. Give it optional=True."
    if str(settings.get("securityContext", {}).get("runAsUser", "1")) == "0":
        yield f"{task.where} runs as root, which the namespace's policy refuses: choose another run_as_user."
    for mount in settings.get("emptyDirMounts", []):
        if (size := mount.get("sizeLimit", "")) and quantity(size) is None:
            yield f"{task.where} mounts a volume of size '{size}', at which Kubeflow's driver crashes: write for example 256Mi."
