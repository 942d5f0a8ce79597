"""What is needed of the Kubeflow Pipelines API (v2beta1), with the generated client.

``kfp.Client`` is not used: it cannot create a recurring run without a pinned version, nor say what becomes of the workflows of one that
is deleted, and it waits a second to be imported.
"""

from __future__ import annotations

import json
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kfp_server_api as api

from components.core.errors import InputError
from pipelines.kubeflow import records
from pipelines.kubeflow.calls import Caller, MissingError
from pipelines.kubeflow.records import Experiment, RecurringRun, Version

PAGE = 100
TIMEOUT_S = (10.0, 60.0)
ORPHAN = "ORPHAN"
"""Running workflows belong to their recurring run, and would be collected with it."""


class Kubeflow:
    """A Kubeflow Pipelines installation.

    Args:
        host: Address of its API.
        namespace: Namespace of experiments and pipelines in multi-user mode; empty in single-user mode.
        token_file: File with a bearer token, which is read anew for each call, as mounted tokens change.
        patience_s: How long each call waits for a server that is away.
    """

    def __init__(self, host: str, namespace: str = "", token_file: Path | None = None, patience_s: float = 120.0) -> None:
        settings = api.Configuration(host=host.rstrip("/"))
        # Repeats are up to Caller, which knows what must not be made twice.
        settings.retries = False
        if token_file is not None:
            settings.api_key["authorization"] = _token(token_file)
            settings.api_key_prefix["authorization"] = "Bearer"
            settings.refresh_api_key_hook = lambda config: config.api_key.update(authorization=_token(token_file))
        client = api.ApiClient(settings)
        self._experiments = api.ExperimentServiceApi(client)
        self._pipelines = api.PipelineServiceApi(client)
        self._uploads = api.PipelineUploadServiceApi(client)
        self._recurring = api.RecurringRunServiceApi(client)
        self._runs = api.RunServiceApi(client)
        self._namespace = {"namespace": namespace} if namespace else {}
        self._call = Caller(host, patience_s)

    def experiment(self, name: str) -> Experiment | None:
        """The experiment of that name."""
        listed = self._call(f"list the experiment {name}", lambda: self._find_experiment(name))
        return next(iter(listed), None)

    def create_experiment(self, name: str, description: str = "Retraining from Git") -> Experiment:
        """Make an experiment."""
        body = api.V2beta1Experiment(display_name=name, description=description, **self._namespace)

        def create() -> Experiment:
            return records.experiment(self._experiments.experiment_service_create_experiment(body, _request_timeout=TIMEOUT_S))

        return self._call(f"create the experiment {name}", create, lambda: next(iter(self._find_experiment(name)), None))

    def unarchive_experiment(self, experiment: Experiment) -> None:
        """Bring an experiment back."""
        self._call(
            "bring back an archived experiment",
            lambda: self._experiments.experiment_service_unarchive_experiment(experiment.id, _request_timeout=TIMEOUT_S),
        )

    def _find_experiment(self, name: str) -> list[Experiment]:
        found = self._experiments.experiment_service_list_experiments(
            filter=_equals("display_name", name), page_size=PAGE, _request_timeout=TIMEOUT_S, **self._namespace
        )
        return [records.experiment(item) for item in found.experiments or []]

    def pipeline(self, name: str) -> str | None:
        """Id of the pipeline of that name."""
        try:
            return self._call(f"look up the pipeline {name}", lambda: self._find_pipeline(name))
        except MissingError:
            return None

    def create_pipeline(self, name: str, description: str) -> str:
        """Make a pipeline that has no version yet, and return its id. An upload would make a version of the pipeline's own name."""
        body = api.V2beta1Pipeline(name=name, display_name=name, description=description, **self._namespace)

        def create() -> str:
            return records.known(self._pipelines.pipeline_service_create_pipeline(body, _request_timeout=TIMEOUT_S).pipeline_id)

        def found() -> str | None:
            try:
                return self._find_pipeline(name)
            except api.ApiException:
                return None

        return self._call(f"create the pipeline {name}", create, found)

    def _find_pipeline(self, name: str) -> str:
        found = self._pipelines.pipeline_service_get_pipeline_by_name(name, _request_timeout=TIMEOUT_S, **self._namespace)
        return records.known(found.pipeline_id)

    def newest_versions(self, pipeline: str, count: int) -> list[Version]:
        """The newest versions of a pipeline, newest first."""
        return self._call(f"list the versions of pipeline {pipeline}", lambda: self._find_versions(pipeline, page_size=count))

    def version(self, pipeline: str, name: str) -> Version | None:
        """The version of a pipeline that has this name."""
        found = self._call(f"look up the version {name}", lambda: self._find_versions(pipeline, filter=_equals("name", name)))
        return next(iter(found), None)

    def _find_versions(self, pipeline: str, **query: Any) -> list[Version]:
        listed = self._pipelines.pipeline_service_list_pipeline_versions(
            pipeline, sort_by="created_at desc", _request_timeout=TIMEOUT_S, **query
        )
        return [records.version(item) for item in listed.pipeline_versions or []]

    def upload_version(self, pipeline: str, name: str, package: str, description: str) -> Version:
        """Upload a package as a version.

        Args:
            pipeline: Id of the pipeline.
            name: Name of the version.
            package: Text of the compiled package.
            description: For people.
        """
        with tempfile.TemporaryDirectory(prefix="tutorloop-") as scratch:
            # The API takes the format from the ending.
            path = Path(scratch) / "package.yaml"
            path.write_text(package)

            def upload() -> Version:
                return records.version(
                    self._uploads.upload_pipeline_version(
                        str(path), name=name, pipelineid=pipeline, description=description, _request_timeout=TIMEOUT_S
                    )
                )

            def found() -> Version | None:
                return next(iter(self._find_versions(pipeline, filter=_equals("name", name))), None)

            return self._call(f"take the version {name}", upload, found)

    def create_run(
        self, name: str, experiment: str, pipeline: str, version: str, parameters: Mapping[str, Any], service_account: str
    ) -> str:
        """Start a run of a pipeline's version, once even when the answer gets lost.

        Args:
            name: Shown for the run.
            experiment: Id of its experiment.
            pipeline: Id of its pipeline.
            version: Id of the version.
            parameters: What differs from the version's defaults.
            service_account: Service account of its pods; empty for Kubeflow's own.

        Returns:
            Its id.
        """
        # Runs have no name of their own that could be taken only once.
        mark = f"submission={uuid.uuid4()}"
        body = api.V2beta1Run(
            display_name=name,
            description=mark,
            experiment_id=experiment,
            pipeline_version_reference=api.V2beta1PipelineVersionReference(pipeline_id=pipeline, pipeline_version_id=version),
            runtime_config=api.V2beta1RuntimeConfig(parameters=dict(parameters)),
            service_account=service_account or None,
        )
        tries = 0

        def create() -> str:
            nonlocal tries
            tries += 1
            if tries > 1 and (made := self._find_run(mark)):
                return made
            return records.known(self._runs.run_service_create_run(body, _request_timeout=TIMEOUT_S).run_id)

        return self._call(f"start the run {name}", create)

    def _find_run(self, mark: str) -> str | None:
        found = self._runs.run_service_list_runs(
            filter=_equals("description", mark), page_size=PAGE, _request_timeout=TIMEOUT_S, **self._namespace
        )
        return next((records.known(run.run_id) for run in found.runs or []), None)

    def recurring_runs(self) -> list[RecurringRun]:
        """All recurring runs of the installation, or of the namespace."""
        return list(self._recurring_pages())

    def _recurring_pages(self) -> Iterator[RecurringRun]:
        token = ""
        while True:
            query = {**self._namespace, "page_size": PAGE, **({"page_token": token} if token else {})}
            page = self._call("list the recurring runs", lambda query=query: self._list_recurring(query))  # type: ignore[misc]
            for item in page.recurring_runs or []:
                yield records.recurring_run(item)
            token = page.next_page_token
            if not token:
                return

    def _list_recurring(self, query: dict[str, Any]) -> Any:
        return self._recurring.recurring_run_service_list_recurring_runs(_request_timeout=TIMEOUT_S, **query)

    def create_recurring_run(self, spec: Mapping[str, Any], description: str) -> str:
        """Make a recurring run, disabled, and return its id. Where an answer gets lost there are two, of which the sync keeps one.

        Args:
            spec: As :func:`pipelines.sync.wanted.spec` makes it.
            description: Description of the recurring run.
        """
        reference = api.V2beta1PipelineVersionReference(
            pipeline_id=spec["pipeline_id"], pipeline_version_id=spec["pipeline_version_id"] or None
        )
        body = api.V2beta1RecurringRun(
            display_name=spec["display_name"],
            description=description,
            pipeline_version_reference=reference,
            runtime_config=api.V2beta1RuntimeConfig(parameters=spec["parameters"], pipeline_root=spec["pipeline_root"] or None),
            trigger=api.V2beta1Trigger(cron_schedule=api.V2beta1CronSchedule(cron=spec["cron"])),
            mode=api.RecurringRunMode.DISABLE,
            max_concurrency=spec["max_concurrency"],
            no_catchup=spec["no_catchup"],
            service_account=spec["service_account"] or None,
            experiment_id=spec["experiment_id"],
        )

        def create() -> str:
            return records.known(
                self._recurring.recurring_run_service_create_recurring_run(body, _request_timeout=TIMEOUT_S).recurring_run_id
            )

        return self._call(f"create the recurring run {spec['display_name']}", create)

    def enable(self, run: str) -> None:
        """Let a recurring run fire."""
        self._call(
            f"enable the recurring run {run}",
            lambda: self._recurring.recurring_run_service_enable_recurring_run(run, _request_timeout=TIMEOUT_S),
        )

    def disable(self, run: str) -> None:
        """Keep a recurring run from firing; one that is gone does not fire either."""
        try:
            self._call(
                f"disable the recurring run {run}",
                lambda: self._recurring.recurring_run_service_disable_recurring_run(run, _request_timeout=TIMEOUT_S),
            )
        except MissingError:
            return

    def delete(self, run: str) -> None:
        """Delete a recurring run and leave its workflows to themselves; one that is gone is no error."""
        try:
            self._call(
                f"delete the recurring run {run}",
                lambda: self._recurring.recurring_run_service_delete_recurring_run(
                    run, propagation_policy=ORPHAN, _request_timeout=TIMEOUT_S
                ),
            )
        except MissingError:
            return


def _equals(key: str, value: str) -> str:
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": key, "stringValue": value}]})


def _token(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise InputError(f"no token can be read: {error.strerror}", path, hint="mount the token, or leave --token-file out") from error
