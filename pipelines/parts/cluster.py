"""How the tasks of a pipeline run on a cluster: the ``cluster`` section of a profile.

KFP can take some of these settings as parameters of a run and others only when a pipeline is compiled, and drops integers among the
former without a word. Here all of them are fixed when the pipeline is compiled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta

from components.core.errors import ParameterError
from components.core.options import Options, parse_options

# What KFP's compiler takes, which is less than Kubernetes does.
Cores = Annotated[str, Meta(pattern=r"^([0-9]+m|[0-9]*\.?[0-9]+)$")]
CoresOrNone = Annotated[str, Meta(pattern=r"^([0-9]+m|[0-9]*\.?[0-9]+)?$")]
Bytes = Annotated[str, Meta(pattern=r"^[0-9]+(K|M|G|T|Ki|Mi|Gi|Ti)?$")]
BytesOrNone = Annotated[str, Meta(pattern=r"^([0-9]+(K|M|G|T|Ki|Mi|Gi|Ti)?)?$")]
Duration = Annotated[str, Meta(pattern=r"^[0-9]+(s|m|h)$")]
LabelValue = Annotated[str, Meta(pattern=r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$")]
Remote = Annotated[str, Meta(pattern=r"^s3://[^/]")]
Count = Annotated[int, Meta(ge=0)]

Kind = Literal["control", "data", "teacher", "model", "training", "generation"]
"""What a task mainly does. ``control``: looks after the run. ``data``: works on rows. ``teacher``: waits for the teacher. ``model``:
fetches the base model. ``training`` and ``generation``: the student; the only ones that may have GPUs."""


class Toleration(Options, frozen=True, kw_only=True):
    """A taint that pods may run in spite of, as in Kubernetes.

    Attributes:
        key: Key of the taint.
        operator: ``Equal`` compares the value, ``Exists`` does not.
        value: Value of the taint.
        effect: Effect of the taint.
    """

    key: str
    operator: Literal["Equal", "Exists"] = "Exists"
    value: str = ""
    effect: Literal["NoExecute", "NoSchedule", "PreferNoSchedule"] = "NoSchedule"


class PodOptions(Options, frozen=True, kw_only=True):
    """The pods of one kind of task.

    Attributes:
        cpu: Cores that are requested, for example ``2`` or ``500m``.
        cpu_limit: Cores at most; empty for no limit, so that idle cores of a node can be used.
        memory: Bytes that are requested and the limit.
        gpus: GPUs of each pod.
        gpu_type: Resource name of the GPUs.
        shared_memory: Size of ``/dev/shm`` (in memory, counts against ``memory``); empty leaves it at the runtime's 64 MiB.
        timeout_s: The pod is ended after so many seconds; the task is tried again and goes on where it was.
        node_selector: Labels that the node must have.
        tolerations: Taints that the node may have.
    """

    cpu: Cores = "500m"
    cpu_limit: CoresOrNone = ""
    memory: Bytes = "1Gi"
    gpus: Count = 0
    gpu_type: str = "nvidia.com/gpu"
    shared_memory: BytesOrNone = ""
    timeout_s: Annotated[int, Meta(ge=60)] = 3_600
    node_selector: dict[str, str] = {}
    tolerations: list[Toleration] = []


class RetryOptions(Options, frozen=True, kw_only=True):
    """Further attempts of a task that was killed, lost its node or its services; it goes on where it was.

    Attributes:
        times: Attempts after the first.
        wait: Before the first of them.
        factor: From one wait to the next; Argo knows whole numbers only.
        within: No attempt begins later than this after the first one began, and one at work is ended then (Argo's ``maxDuration``).
    """

    times: Count = 2
    wait: Duration = "2s"
    factor: Annotated[int, Meta(ge=1)] = 5
    within: Duration = "720h"


class SecretOptions(Options, frozen=True, kw_only=True):
    """Names of the Kubernetes Secrets, in the namespace of the runs, that tasks get as environment.

    A Secret that is missing leaves its variables unset, and the preflight says so.

    Attributes:
        store: ``accesskey`` and ``secretkey`` of the object store.
        publisher: The same, of a user who may write to the model store; for the task that publishes.
        teacher: ``api-key`` of the teacher; for tasks that ask it.
        hub: ``token`` of the model hub; for the tasks that fetch models and data.
        pushgateway: ``username`` and ``password`` of the Pushgateway.
        pull: Secret with which images are pulled; empty for none.
    """

    store: str = "tutorloop-store"
    publisher: str = "tutorloop-publisher"
    teacher: str = "tutorloop-teacher"
    hub: str = "tutorloop-hub"
    pushgateway: str = "tutorloop-pushgateway"
    pull: str = ""


class StoreOptions(Options, frozen=True, kw_only=True):
    """Where the runs of a pipeline keep what outlives them; tasks have no folder in common, so that each is an ``s3://`` URI.

    Attributes:
        responses: The teacher's answers.
        checkpoints: Work in progress.
        models: Published models.
        records: What each run was asked, did and cost.
    """

    responses: Remote = "s3://responses"
    checkpoints: Remote = "s3://artifacts/checkpoints"
    models: Remote = "s3://models"
    records: Remote = "s3://artifacts/records"


class PodsOptions(Options, frozen=True, kw_only=True):
    """Pods by kind of task; the defaults fit the tiny student.

    Attributes:
        control: Tasks that look after the run: preflight, results.
        data: Tasks that work on rows: sources, contamination gate, preferences, comparison, report.
        teacher: Tasks that wait for the teacher or judge.
        model: Fetches the base model.
        training: SFT and preference tuning; may have GPUs.
        generation: Sampling and evaluation; may have GPUs.
    """

    control: PodOptions = PodOptions(cpu="200m", memory="512Mi", timeout_s=1_800)
    data: PodOptions = PodOptions(cpu="500m", memory="2Gi")
    teacher: PodOptions = PodOptions(cpu="500m", memory="1Gi", timeout_s=86_400)
    model: PodOptions = PodOptions(cpu="1", memory="3Gi", timeout_s=7_200)
    training: PodOptions = PodOptions(cpu="1", memory="3Gi", shared_memory="256Mi", timeout_s=86_400)
    generation: PodOptions = PodOptions(cpu="1", memory="3Gi", timeout_s=43_200)

    def check(self, section: str) -> None:
        """Refuse GPUs for tasks that have no use for them.

        Raises:
            ParameterError: A kind of task is given some.
        """
        for kind in ("control", "data", "teacher", "model"):
            if gpus := getattr(self, kind).gpus:
                raise ParameterError(f"{section}.{kind}.gpus", gpus, "0: only training and generation use GPUs")


class ClusterOptions(Options, frozen=True, kw_only=True):
    """How a compiled pipeline runs on a cluster. All values are our choice.

    Attributes:
        pipeline: Name of the pipeline in Kubeflow, in metrics and in labels; empty for the method's.
        stores: Addresses of stores; those of manifests/ by default.
        pods: Pods by kind of task.
        retry: Further attempts of a task.
        cost_center: Value of the label ``tutorloop.dev/cost`` of every pod.
        queue: Kueue LocalQueue that pods wait in; empty without Kueue.
        autoscaling: Nodes with GPUs may appear when a pod asks for them: the preflight then does not insist on seeing one.
        environment: ConfigMap in the namespace of the runs whose keys become variables of tasks (see ``VARIABLES``).
        model_cache: PersistentVolumeClaim (ReadWriteMany) in which tasks keep copies of large models for one another; empty for none.
        secrets: Names of Secrets.
        keep_workflow_s: A finished workflow and its pods are removed after so many seconds; record and artifacts stay.
        deadline_s: A run is ended after so many seconds; 0 for never.
    """

    pipeline: LabelValue = ""
    stores: StoreOptions = StoreOptions()
    pods: PodsOptions = PodsOptions()
    retry: RetryOptions = RetryOptions()
    cost_center: LabelValue = "tutorloop"
    queue: LabelValue = ""
    autoscaling: bool = False
    environment: str = "tutorloop-environment"
    model_cache: str = ""
    secrets: SecretOptions = SecretOptions()
    keep_workflow_s: Annotated[int, Meta(ge=60)] = 604_800
    deadline_s: Count = 0


EVERY: tuple[Kind, ...] = ("control", "data", "teacher", "model", "training", "generation")
VARIABLES: dict[str, tuple[Kind, ...]] = {
    "AWS_ENDPOINT_URL": EVERY,
    "AWS_REGION": EVERY,
    "TUTORLOOP_CACHE_DAYS": ("data",),
    "TUTORLOOP_DATA": ("control", "data", "teacher"),
    "TUTORLOOP_KUBEFLOW_URL": ("control",),
    "TUTORLOOP_MODEL_STORE": ("model", "training"),
    "TUTORLOOP_MODEL_STORE_FROM_MB": ("model", "training"),
    "TUTORLOOP_OFFLINE_TEACHER_URL": ("control", "teacher"),
    "TUTORLOOP_PUSHGATEWAY": EVERY,
    "TUTORLOOP_RETRAINING_PERIOD_S": ("data",),
    "TUTORLOOP_STORE_PATIENCE_S": EVERY,
}
"""Keys of the ConfigMap, and the kinds of tasks that get each as the variable of its name: those that read it, since every reference
to a key is in the workflow several times for each task."""


def parse_cluster(values: Mapping[str, Any]) -> ClusterOptions:
    """Check the ``cluster`` section.

    Raises:
        ParameterError: A name or value is wrong, or a kind of task is given GPUs that has no use for them.
    """
    return parse_options(ClusterOptions, values, "cluster")
