"""What a real cluster refuses of a compiled package while one machine takes it (and the other way round), read from the package.

``kfp.local`` and the S3 server of the tests are kinder than Kubeflow, Argo, MLMD, Kubernetes and Linux. Each difference that is known
is a check (paths: kubeflow/pipelines 2.17.0 unless said; "local": fails in kfp.local only):

=====================================================  =============================================  ==================================
difference                                             where it is                                    check
=====================================================  =============================================  ==================================
one artifact as two inputs of a task or layer          MLMD UniqueEvent (artifact, execution, type)   artifacts.one_name_each
collected list, first shard new, another cached        v2/component/launcher_v2.go:1019 and :988      artifacts.buckets_are_opened
workflow larger than 1 MiB (ours: 1.4 MB), etcd        Argo workflow/packer/packer.go; etcd 1.5 MiB   workflow_size.fits
rows of the database, length of a package              apiserver/model/common.go, common/const.go     workflow_size.fits
names of pipeline, templates, tasks, labels            Argo workflow/validate/validate.go:1624        names.accepted
an argument of more than 128 KiB                       Linux MAX_ARG_STRLEN; v2/driver/driver.go      argument_sizes.short_enough
numbers as resources: no GPU, or a parse error         v2/driver: resolvePodSpecInputRuntimeParameter pods.accepted
requests above limits; root; bad quantities            Kubernetes; PRs 13885 and 13939                pods.accepted
a Secret that is missing                               Kubernetes: CreateContainerConfigError         pods.accepted
loop over artifacts                                    argocompiler/dag.go:73                         structure.runs_everywhere
loop right in an exit handler; importer in a loop      issues 12390, 10860                            structure.runs_everywhere
importer under a condition                             argocompiler/dag.go (importer task)            structure.runs_everywhere
a cache key of a task is ignored                       PR 13762                                       structure.runs_everywhere
collected from under a condition                       both                                           structure.runs_everywhere
loop over a named output; OneOf artifacts as output    local                                          structure.runs_everywhere
nested pipeline with artifacts as its only arguments   local                                          structure.runs_everywhere
defaults: None, of the wrong type, missing             local; argocompiler/argo.go:96                 structure.defaults_are_values
graphs that nobody can read                            frontend/src/lib/v2/StaticFlow.ts              layers.readable
=====================================================  =============================================  ==================================

Not to be seen in a package, and tested elsewhere: conditions of MinIO's policies, settings that Kubeflow's servers insist on, quotas of
a namespace (``tests/manifests``); empty loops, since their items are a run's arguments (a profile has 1 shard or more).
"""

from __future__ import annotations

from collections.abc import Iterator

from components.core.errors import InputError
from pipelines.packages.checks import argument_sizes, artifacts, layers, names, pods, structure, workflow_size
from pipelines.packages.checks.ir import Package

CHECKS = (
    artifacts.one_name_each,
    artifacts.buckets_are_opened,
    names.accepted,
    argument_sizes.short_enough,
    pods.accepted,
    structure.runs_everywhere,
    structure.defaults_are_values,
    layers.readable,
)


def problems(text: str, where: str = "the package") -> Iterator[str]:
    """Everything that a cluster would refuse.

    Args:
        text: Text of a compiled package.
        where: What it is called in messages.

    Yields:
        What is wrong, where, and what to do.

    Raises:
        InputError: No compiled package.
    """
    package = Package.parse(text, where)
    for check in CHECKS:
        yield from check(package)
    yield from workflow_size.fits(package, text)


def require(text: str, where: str) -> None:
    """Refuse a package that would not run on a cluster.

    Args:
        text: Text of a compiled package.
        where: What it is called in messages.

    Raises:
        InputError: It would not; says why, all reasons at once.
    """
    if found := list(problems(text, where)):
        raise InputError("would not run on a cluster:\n- " + "\n- ".join(found), where, hint="change the pipeline or the profile")
