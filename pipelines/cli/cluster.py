"""``tutorloop submit``, ``watch`` and ``keep-records``: runs on a cluster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from components.core.store import is_remote
from pipelines.images.table import DEFAULT_TABLE

NAMESPACE = "kubeflow"
RECORDS = "s3://artifacts/records"

_namespace = click.option(
    "--runs-in",
    metavar="NAMESPACE",
    default=NAMESPACE,
    show_default=True,
    help="Where Kubeflow runs workflows; read with kubectl's access.",
)


def _server(*, required: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        "--host",
        metavar="URL",
        required=required,
        default=None if required else "",
        envvar="KF_PIPELINES_ENDPOINT",
        help="Kubeflow, for example http://localhost:8080 behind `kubectl -n kubeflow port-forward svc/ml-pipeline-ui 8080:80`.",
    )


@click.command()
@click.option("--profile", metavar="NAME", default="", help="Name of a profile, or a YAML file; with --package, the package's.")
@click.option("--package", type=click.Path(path_type=Path), help="Compiled package; without it the profile is compiled.")
@click.option("--images", "table", metavar="URI", default=DEFAULT_TABLE, show_default=True, help="Table of built images.")
@click.option("--set", "overrides", multiple=True, metavar="NAME=VALUE", help="Change one parameter, for example sft.learning_rate=1e-5.")
@click.option("--name", default="", help="Shown for the run; the profile and the time when not given.")
@click.option(
    "--pipeline", default="", help="Pipeline in Kubeflow that the run is shown as one of; that of the profile with -trials behind it."
)
@click.option("--experiment", default="tutorloop", show_default=True, help="Experiment in Kubeflow.")
@click.option("--service-account", default="tutorloop-run", show_default=True, help="Of the run's pods.")
@_server(required=True)
@click.option("--namespace", metavar="NAME", default="", help="Namespace of experiments and pipelines, in multi-user mode.")
@click.option("--token-file", metavar="FILE", type=click.Path(path_type=Path), help="File with a bearer token; read anew for each call.")
@click.option("--watch", "follow", is_flag=True, help="Follow the run to its end, as `tutorloop watch` does.")
@_namespace
def submit(
    profile: str,
    package: Path | None,
    table: str,
    overrides: tuple[str, ...],
    name: str,
    pipeline: str,
    experiment: str,
    service_account: str,
    host: str,
    namespace: str,
    token_file: Path | None,
    follow: bool,
    runs_in: str,
) -> None:
    """Start a run on a cluster, of a profile or of a compiled package."""
    import tempfile
    import time

    from pipelines.images.table import read_table
    from pipelines.kubeflow import submission
    from pipelines.kubeflow.client import Kubeflow
    from pipelines.kubeflow.packages import read_package
    from pipelines.kubeflow.submitting import submit as start
    from pipelines.parameters.profile import load
    from pipelines.runs.record import page_of

    if not profile and package is None:
        raise click.UsageError("give --profile or --package")
    with tempfile.TemporaryDirectory(prefix="tutorloop-") as scratch:
        if package is not None:
            found = read_package(package)
            profile = profile or found.profile
            given = submission.given_to(found.profile, profile, overrides)
            records = found.records or RECORDS
            pipeline = pipeline or f"{package.stem}{submission.TRIALS}"
        else:
            text, given = submission.compiled(profile, overrides, read_table(table))
            package = Path(scratch) / "package.yaml"
            package.write_text(text)
            records = read_package(package).records or RECORDS
            pipeline = pipeline or f"{load(profile, overrides).cluster.pipeline}{submission.TRIALS}"
        shown = name or f"{Path(profile or pipeline).stem} {time.strftime('%Y-%m-%d %H:%M:%S')}"
        client = Kubeflow(host, namespace, token_file)
        run = start(
            client, package, pipeline=pipeline, name=shown, experiment=experiment, parameters=given, service_account=service_account
        )
    click.echo(f"run: {run}")
    click.echo(f"page: {page_of(host, run)}")
    click.echo(f"record: {records}/{run}")
    if follow:
        _watch(run, host, runs_in, records)


@click.command()
@click.argument("run")
@_server(required=False)
@click.option("--records", metavar="URI", default=RECORDS, show_default=True, help="Records of runs that do not say where theirs is.")
@_namespace
def watch(run: str, host: str, records: str, runs_in: str) -> None:
    """Follow a run on a cluster to its end; ends with 1 when it fails."""
    _watch(run, host, runs_in, records)


@click.command("keep-records", hidden=True)
@click.option("--runs-in", metavar="NAMESPACE", default=NAMESPACE, show_default=True, help="Where Kubeflow runs workflows.")
@click.option("--records", metavar="URI", default=RECORDS, show_default=True, help="Records of runs that do not say where theirs is.")
@click.option("--health", metavar="FOLDER", type=click.Path(path_type=Path), default="/tmp/keeper", help="Files for the pod's probes.")  # noqa: S108
def keep_records(runs_in: str, records: str, health: Path) -> None:
    """Close the records of runs whose workflows have ended; runs in the cluster, without an end."""
    import time

    from pipelines.kubeflow.cluster_api import Cluster
    from pipelines.kubeflow.keeper import Keeper
    from pipelines.kubeflow.keeper_health import Health

    def say(text: str) -> None:
        click.echo(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {text}")

    home = records if is_remote(records) else str(Path(records).resolve())
    Keeper(Cluster(runs_in), home, say, Health(health)).run()


def _watch(run: str, host: str, namespace: str, records: str) -> None:
    from pipelines.kubeflow.cluster_api import Cluster
    from pipelines.kubeflow.watching import watch as follow

    if not follow(Cluster(namespace), run, click.echo, host=host, records=records):
        raise SystemExit(1)
