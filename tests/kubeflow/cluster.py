"""What the API server of Kubeflow Pipelines 2.17 does, as far as a sync sees it: a double that keeps its rules and its traps.

Read in the server's source at tag 2.17.0 (backend/src/apiserver): whole seconds, names and lengths, what is checked when, the order
of Kubernetes resource and database row, and what becomes of workflows when their owner is deleted.
"""

from __future__ import annotations

import json
import random
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

CODES = {400: 3, 404: 5, 409: 6, 500: 13}
JOB_FIELDS = {
    "display_name", "description", "pipeline_version_reference", "runtime_config", "service_account", "max_concurrency",
    "trigger", "mode", "no_catchup", "namespace", "experiment_id", "recurring_run_id", "pipeline_spec", "status",
    "created_at", "updated_at", "error", "plugins_input",
}  # fmt: skip
RUN_FIELDS = {
    "display_name", "description", "pipeline_version_reference", "runtime_config", "service_account", "experiment_id", "run_id",
    "state", "storage_state", "error", "run_details", "state_history", "recurring_run_id", "created_at", "scheduled_at", "finished_at",
    "pipeline_spec", "plugins_input", "plugins_output",
}  # fmt: skip
TEXT_COLUMN = 255
"""Columns without a size of their own are VARCHAR(255) in MySQL, which refuses more."""


class Refusal(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass
class Workflow:
    """A run: which version of which pipeline, of which ScheduledWorkflow, and whether it was collected."""

    id: str
    owner: str | None
    recurring_run: str
    version: str
    killed: bool = False


@dataclass
class Cluster:
    """Database, ScheduledWorkflows and workflows.

    Attributes:
        now: Seconds since 1970; each change takes a second unless ``frozen``.
        scheduled: ScheduledWorkflow by id: whether it fires.
        doubled: Schedules of which two fired at the same time, ever.
    """

    now: int = 1_800_000_000
    frozen: bool = False
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    pipelines: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    scheduled: dict[str, bool] = field(default_factory=dict)
    workflows: list[Workflow] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def _new(self) -> tuple[str, int]:
        if not self.frozen:
            self.now += 1
        return str(uuid.uuid4()), self.now

    def create_experiment(self, body: Mapping[str, Any]) -> dict[str, Any]:
        name = body.get("display_name", "")
        if not name or len(name) > 128:
            raise Refusal(400, "Experiment's name is empty or too long")
        if any(item["display_name"] == name for item in self.experiments.values()):
            raise Refusal(409, f"Failed to create a new experiment. The name {name} already exists. Please specify a new name")
        key, now = self._new()
        item = {"experiment_id": key, "display_name": name, "description": body.get("description", "")}
        self.experiments[key] = item | {"created_at": now, "storage_state": "AVAILABLE"}
        return self.experiments[key]

    def archive_experiment(self, key: str, state: str) -> dict[str, Any]:
        self.get(self.experiments, key, "Experiment")["storage_state"] = state
        if state == "ARCHIVED":
            for job in self.jobs.values():
                if job["experiment_id"] == key:
                    self.set_mode(job["recurring_run_id"], False)
        return {}

    def create_pipeline(self, body: Mapping[str, Any]) -> dict[str, Any]:
        name = body.get("name", "")
        if not name or len(name) > 128:
            raise Refusal(400, "name is required")
        if any(item["name"] == name for item in self.pipelines.values()):
            raise Refusal(409, f"Failed to create a new pipeline. The name {name} already exist. Please specify a new name")
        key, now = self._new()
        item = {"pipeline_id": key, "name": name, "display_name": body.get("display_name") or name}
        self.pipelines[key] = item | {"description": body.get("description", ""), "created_at": now}
        return self.pipelines[key]

    def create_version(self, pipeline: str, name: str, description: str, package: str) -> dict[str, Any]:
        if pipeline not in self.pipelines or len(name) > 127:
            raise Refusal(400, "Failed to create a pipeline version")
        try:
            spec = next(iter(yaml.load_all(package, Loader=yaml.CSafeLoader)))
            assert spec["pipelineInfo"]["name"] and spec["root"] and spec["schemaVersion"]
        except (yaml.YAMLError, StopIteration, KeyError, TypeError, AssertionError) as error:
            raise Refusal(400, "Failed to create a pipeline version due to template creation error") from error
        if any(item["pipeline_id"] == pipeline and item["name"] == name for item in self.versions.values()):
            raise Refusal(409, "Failed to create a pipeline version")
        key, now = self._new()
        item = {"pipeline_version_id": key, "pipeline_id": pipeline, "name": name, "display_name": name, "created_at": now}
        self.versions[key] = item | {"description": description, "pipeline_spec": spec}
        return self.versions[key]

    def latest(self, pipeline: str) -> dict[str, Any]:
        """The newest version; of several that are as new, any."""
        self.get(self.pipelines, pipeline, "Pipeline")
        own = [item for item in self.versions.values() if item["pipeline_id"] == pipeline]
        if not own:
            raise Refusal(404, f"PipelineVersion {pipeline} not found")
        newest = max(item["created_at"] for item in own)
        return random.choice([item for item in own if item["created_at"] == newest])

    def create_job(self, body: Mapping[str, Any]) -> dict[str, Any]:
        if unknown := set(body) - JOB_FIELDS:
            raise Refusal(400, f'proto: unknown field "{unknown.pop()}"')
        if not 1 <= int(body.get("max_concurrency", 0)) <= 10:
            raise Refusal(400, "Max concurrency of a recurring run must be at least 1 and at most 10")
        cron = body.get("trigger", {}).get("cron_schedule", {}).get("cron", "")
        if not re.fullmatch(r"\S+( \S+){4,5}", cron):
            raise Refusal(400, "Schedule cron is not a supported format(https://godoc.org/github.com/robfig/cron)")
        if not body.get("display_name"):
            raise Refusal(500, "Recurring run's name cannot be empty")
        self.get(self.experiments, body.get("experiment_id", ""), "Experiment")
        reference = body["pipeline_version_reference"]
        pipeline, version = reference.get("pipeline_id", ""), reference.get("pipeline_version_id", "")
        used = self.get(self.versions, version, "PipelineVersion") if version else self.latest(pipeline)
        if used["pipeline_id"] != pipeline:
            raise Refusal(400, f"Pipeline version {version} belongs to pipeline {used['pipeline_id']} (not {pipeline})")
        config = body.get("runtime_config", {})
        parameters = _as_protobuf(config.get("parameters", {}))
        _check_inputs(used["pipeline_spec"], parameters)
        key, now = self._new()
        enabled = body.get("mode") == "ENABLE"
        self.scheduled[key] = enabled
        # The Kubernetes resource is there by now; only then the database looks at lengths.
        for name in ("display_name", "description", "service_account"):
            if len(body.get(name, "")) > TEXT_COLUMN:
                raise Refusal(500, "Internal Server Error")
        self.jobs[key] = {
            "recurring_run_id": key,
            "display_name": body["display_name"],
            "description": body.get("description", ""),
            "experiment_id": body["experiment_id"],
            "namespace": "kubeflow",
            "pipeline_version_reference": {"pipeline_id": pipeline, **({"pipeline_version_id": version} if version else {})},
            "runtime_config": {"parameters": parameters, "pipeline_root": config.get("pipeline_root", "")},
            "service_account": body.get("service_account") or ("pipeline-runner" if version else ""),
            "max_concurrency": str(int(body["max_concurrency"])),
            "no_catchup": body.get("no_catchup", False),
            "trigger": {"cron_schedule": {"cron": cron}},
            "created_at": now,
            "updated_at": now,
            **_mode(enabled),
        }
        self._watch()
        return self.jobs[key]

    def create_run(self, body: Mapping[str, Any]) -> dict[str, Any]:
        if unknown := set(body) - RUN_FIELDS:
            raise Refusal(400, f'proto: unknown field "{unknown.pop()}"')
        if not body.get("display_name"):
            raise Refusal(400, "The run name is empty. Please specify a valid name")
        self.get(self.experiments, body.get("experiment_id", ""), "Experiment")
        reference = body["pipeline_version_reference"]
        used = self.get(self.versions, reference["pipeline_version_id"], "PipelineVersion")
        parameters = _as_protobuf(body.get("runtime_config", {}).get("parameters", {}))
        _check_inputs(used["pipeline_spec"], parameters)
        key, now = self._new()
        kept = {name: body.get(name, "") for name in ("display_name", "description", "experiment_id", "service_account")}
        self.runs[key] = {
            "run_id": key,
            **kept,
            "pipeline_version_reference": dict(reference),
            "runtime_config": {"parameters": parameters},
            "created_at": now,
        }
        return self.runs[key]

    def set_mode(self, key: str, enabled: bool) -> dict[str, Any]:
        job = self.get(self.jobs, key, "Job")
        if key not in self.scheduled:
            raise Refusal(500, "Internal Server Error")
        self.scheduled[key] = enabled
        job.update(_mode(enabled))
        self._watch()
        return {}

    def delete_job(self, key: str, policy: str) -> dict[str, Any]:
        self.get(self.jobs, key, "Job")
        self.scheduled.pop(key, None)
        del self.jobs[key]
        for workflow in self.workflows:
            if workflow.owner == key:
                workflow.owner = None
                workflow.killed = workflow.killed or policy != "ORPHAN"
        return {}

    def get(self, table: dict[str, dict[str, Any]], key: str, kind: str) -> dict[str, Any]:
        """A row; refuses an id that is none."""
        if key not in table:
            raise Refusal(404, f"{kind} {key} not found")
        return table[key]

    def tick(self) -> None:
        """Let everything that is enabled fire."""
        for key, enabled in self.scheduled.items():
            if enabled and key in self.jobs:
                reference = self.jobs[key]["pipeline_version_reference"]
                version = reference.get("pipeline_version_id") or self.latest(reference["pipeline_id"])["pipeline_version_id"]
                self.workflows.append(Workflow(str(uuid.uuid4()), key, key, version))

    def _watch(self) -> None:
        firing = [self.jobs[key]["display_name"] for key, enabled in self.scheduled.items() if enabled and key in self.jobs]
        self.doubled += [name for name in set(firing) if firing.count(name) > 1]

    def jobs_named(self, name: str) -> list[dict[str, Any]]:
        """Recurring runs with this name, oldest first."""
        return sorted((job for job in self.jobs.values() if job["display_name"] == name), key=lambda job: int(job["created_at"]))

    def summary(self) -> Any:
        """What there is, without ids and times: equal for two histories that came to the same."""

        def named(job: Mapping[str, Any]) -> Any:
            # The hash in a marker covers ids, which differ between two clusters.
            kept = {key: value for key, value in job.items() if key not in ("recurring_run_id", "created_at", "updated_at")}
            kept["description"] = re.sub("spec=[0-9a-f]+", "spec=", kept["description"])
            kept["experiment_id"] = self.experiments[kept["experiment_id"]]["display_name"]
            reference = kept["pipeline_version_reference"]
            version = reference.get("pipeline_version_id")
            kept["pipeline_version_reference"] = [
                self.pipelines[reference["pipeline_id"]]["name"],
                self.versions[version]["name"] if version else "",
            ]
            return kept

        return {
            "experiments": sorted((item["display_name"], item["storage_state"]) for item in self.experiments.values()),
            "pipelines": sorted(item["name"] for item in self.pipelines.values()),
            "versions": [item["name"] for item in sorted(self.versions.values(), key=lambda item: int(item["created_at"]))],
            "jobs": sorted((named(job) for job in self.jobs.values()), key=json.dumps),
            "scheduled": sorted(self.scheduled.values()),
        }


def _mode(enabled: bool) -> dict[str, str]:
    return {"mode": "ENABLE", "status": "ENABLED"} if enabled else {"mode": "DISABLE", "status": "DISABLED"}


def _as_protobuf(value: Any) -> Any:
    """Numbers are doubles there, and are written without a fraction when they have none."""
    if isinstance(value, Mapping):
        return {key: _as_protobuf(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_protobuf(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


_KINDS: dict[str, Callable[[Any], bool]] = {
    "NUMBER_DOUBLE": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "NUMBER_INTEGER": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "STRING": lambda value: isinstance(value, str),
    "BOOLEAN": lambda value: isinstance(value, bool),
    "LIST": lambda value: isinstance(value, list),
    "STRUCT": lambda value: isinstance(value, dict),
}


def _check_inputs(spec: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """As ``validatePipelineJobInputs`` in template/v2_template.go, which runs and recurring runs both pass."""
    inputs = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    for name, item in inputs.items():
        if name not in given:
            if not item.get("isOptional") and "defaultValue" not in item:
                raise Refusal(400, f"parameter {name} is not optional, yet has neither default value nor user provided value")
        elif not _KINDS[item["parameterType"]](given[name]):
            raise Refusal(400, f"input parameter {name} requires type {item['parameterType']}")
    if extra := sorted(set(given) - set(inputs)):
        raise Refusal(400, f"parameter(s) provided are not required by pipeline: {', '.join(extra)}")
