"""``tutorloop sync``: Kubeflow as Git has it."""

from __future__ import annotations

from pathlib import Path

import click

from components.core.errors import TutorLoopError

DIFFERENT = 3
"""Exit code of ``--dry-run --exit-code``; 1 is an error, and 2 a wrong option."""


@click.command()
@click.option("--schedules", metavar="FOLDER", required=True, help="Folder of schedules.")
@click.option("--packages", metavar="FOLDER", required=True, help="Folder of compiled packages, as `tutorloop release` writes it.")
@click.option(
    "--host",
    metavar="URL",
    required=True,
    envvar="KF_PIPELINES_ENDPOINT",
    help="Kubeflow API, for example http://ml-pipeline.kubeflow:8888.",
)
@click.option("--namespace", metavar="NAME", default="", help="Namespace of experiments and pipelines, in multi-user mode.")
@click.option("--token-file", metavar="FILE", type=click.Path(path_type=Path), help="File with a bearer token; read anew for each call.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@click.option("--exit-code", is_flag=True, help=f"With --dry-run: end with {DIFFERENT} when something would be done.")
@click.option("--prune", is_flag=True, help="Delete recurring runs that are gone from Git, instead of disabling them.")
@click.option("--patience", default=120.0, show_default=True, metavar="SECONDS", help="How long each call waits for an API that is away.")
def sync(
    schedules: str,
    packages: str,
    host: str,
    namespace: str,
    token_file: Path | None,
    dry_run: bool,
    exit_code: bool,
    prune: bool,
    patience: float,
) -> None:
    """Make Kubeflow's pipelines and recurring runs agree with folders of schedules and packages."""
    from pipelines.kubeflow.client import Kubeflow
    from pipelines.kubeflow.packages import read_packages
    from pipelines.sync import metrics
    from pipelines.sync.reconcile import Sync
    from pipelines.sync.schedules import read_folder

    if exit_code and not dry_run:
        raise click.UsageError("--exit-code goes with --dry-run")
    declared = read_folder(Path(schedules))
    found, broken = read_packages(Path(packages))
    work = Sync(Kubeflow(host, namespace, token_file, patience), click.echo, dry_run=dry_run, prune=prune)
    errors: list[TutorLoopError] = [*declared.errors, *broken.values()]
    try:
        work.run(declared.schedules, found, complete=not declared.errors)
    except TutorLoopError as failure:
        errors.append(failure)
    errors += work.outcome.errors
    if not dry_run:
        metrics.publish(declared.schedules, work.outcome, failed=bool(errors))
    for error in errors:
        click.echo(f"error: {error}", err=True)
    if errors:
        raise SystemExit(1)
    if not work.outcome.changes:
        click.echo(f"Kubeflow agrees with {len(declared.schedules)} schedules and {len(found)} packages")
    elif dry_run and exit_code:
        raise SystemExit(DIFFERENT)
