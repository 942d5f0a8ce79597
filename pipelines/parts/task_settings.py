"""What every task of a pipeline is given, in one place: its name, its attempts and the settings of its pod."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from kfp import dsl, kubernetes

from pipelines.parts.cluster import VARIABLES, ClusterOptions, Kind, PodOptions

USER = 65532
"""Of the images."""
MODEL_CACHE = "/tutorloop-models"
RUN_LABEL = "pipeline/runid"
"""KFP puts it on every pod."""
LABELS = "tutorloop.dev"


@dataclass(frozen=True)
class TaskSettings:
    """Settings of the tasks of one pipeline.

    Attributes:
        cluster: Cluster options of the profile.
        launchers: Sections of the trainings that nodes of their own do (Kubeflow Trainer): the pods of these tasks only wait, and then
            handle the model's files.
    """

    cluster: ClusterOptions
    launchers: frozenset[str] = frozenset()

    def configure(
        self,
        task: dsl.PipelineTask,
        display_name: str,
        kind: Kind,
        *,
        cached: bool = True,
        retried: bool = True,
        publishes: bool = False,
        asks_teacher: bool = False,
        fetches: bool = False,
        trains: str = "",
    ) -> dsl.PipelineTask:
        """Give a task all its settings. Where tasks run as processes or containers of one machine, only name and attempts count.

        Args:
            task: Task of a stage, not a nested pipeline.
            display_name: Shown in the graph.
            kind: Decides about the pod.
            cached: False for a task that looks at the world outside, and must look anew in every run.
            retried: False for a task whose errors are to be told at once.
            publishes: The task writes to the model store.
            asks_teacher: The task needs the teacher's key, whatever its kind.
            fetches: The task may fetch from a model hub.
            trains: Section of the training that the task does; empty for any other task.

        Returns:
            The task.
        """
        task.set_display_name(display_name).set_caching_options(cached)
        retry = self.cluster.retry
        if retried and retry.times:
            task.set_retry(retry.times, backoff_duration=retry.wait, backoff_factor=float(retry.factor), backoff_max_duration=retry.within)
        pods = self.cluster.pods
        if trains in self.launchers:
            self._pod(task, msgspec.structs.replace(pods.model, timeout_s=pods.training.timeout_s))
        else:
            self._pod(task, getattr(pods, kind))
        if self.cluster.model_cache and kind in ("model", "training", "generation"):
            kubernetes.mount_pvc(task, pvc_name=self.cluster.model_cache, mount_path=MODEL_CACHE)
            task.set_env_variable("TUTORLOOP_MODEL_CACHE", MODEL_CACHE)
        self._labels(task)
        self._environment(task, kind, publishes=publishes, asks_teacher=asks_teacher or kind == "teacher", fetches=fetches)
        return task

    def pipeline_config(self) -> dsl.PipelineConfig:
        """Settings of whole runs."""
        cluster = self.cluster
        return dsl.PipelineConfig(ttl_seconds_after_finished=cluster.keep_workflow_s, active_deadline_seconds=cluster.deadline_s or None)

    def _pod(self, task: dsl.PipelineTask, pod: PodOptions) -> None:
        task.set_cpu_request(pod.cpu).set_memory_request(pod.memory).set_memory_limit(pod.memory)
        if pod.cpu_limit:
            task.set_cpu_limit(pod.cpu_limit)
        if pod.gpus:
            task.set_accelerator_type(pod.gpu_type).set_accelerator_limit(str(pod.gpus))
        if pod.shared_memory:
            kubernetes.empty_dir_mount(
                task,
                volume_name="shm",
                mount_path="/dev/shm",  # noqa: S108
                medium="Memory",
                size_limit=pod.shared_memory,
            )
        for key, value in sorted(pod.node_selector.items()):
            kubernetes.add_node_selector(task, key, value)
        for taint in pod.tolerations:
            kubernetes.add_toleration(task, key=taint.key, operator=taint.operator, value=taint.value or None, effect=taint.effect)
        kubernetes.set_timeout(task, pod.timeout_s)
        kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
        if self.cluster.secrets.pull:
            kubernetes.set_image_pull_secrets(task, [self.cluster.secrets.pull])

    def _labels(self, task: dsl.PipelineTask) -> None:
        labels = {
            f"{LABELS}/pipeline": self.cluster.pipeline,
            f"{LABELS}/stage": task.component_spec.name,
            f"{LABELS}/cost": self.cluster.cost_center,
            "kueue.x-k8s.io/queue-name": self.cluster.queue,
        }
        for key, value in labels.items():
            if value:
                kubernetes.add_pod_label(task, key, value)

    def _environment(self, task: dsl.PipelineTask, kind: Kind, *, publishes: bool, asks_teacher: bool, fetches: bool) -> None:
        secrets = self.cluster.secrets
        user = secrets.publisher if publishes else secrets.store
        given = {user: {"accesskey": "AWS_ACCESS_KEY_ID", "secretkey": "AWS_SECRET_ACCESS_KEY"}}
        if asks_teacher:
            given[secrets.teacher] = {"api-key": "TUTORLOOP_TEACHER_API_KEY"}
        if fetches:
            given[secrets.hub] = {"token": "HF_TOKEN"}
        given[secrets.pushgateway] = {"username": "TUTORLOOP_PUSHGATEWAY_USER", "password": "TUTORLOOP_PUSHGATEWAY_PASSWORD"}
        for name, variables in given.items():
            # A pod whose Secret is missing would wait for it without a word; a task without its key says what it lacks.
            kubernetes.use_secret_as_env(task, name, variables, optional=True)
        needed = {name: name for name, kinds in VARIABLES.items() if kind in kinds}
        kubernetes.use_config_map_as_env(task, self.cluster.environment, needed, optional=True)
        kubernetes.use_field_path_as_env(task, "TUTORLOOP_RUN", f"metadata.labels['{RUN_LABEL}']")
        kubernetes.use_field_path_as_env(task, "TUTORLOOP_PIPELINE", f"metadata.labels['{LABELS}/pipeline']")
