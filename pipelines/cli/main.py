"""The ``tutorloop`` command."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from components.core import data_folder
from components.core.stage import readable_errors
from components.core.store import is_remote
from pipelines.cli.cluster import keep_records, submit, watch
from pipelines.cli.images import compile_package, images, release
from pipelines.cli.store import store
from pipelines.cli.sync import sync
from pipelines.images.table import DEFAULT_TABLE

if TYPE_CHECKING:
    from pipelines.parameters.profile import RunOptions


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Teaches small language models mathematics, on a laptop or on Kubernetes."""


cli.add_command(images)
cli.add_command(compile_package)
cli.add_command(store)
cli.add_command(sync)
cli.add_command(release)
cli.add_command(submit)
cli.add_command(watch)
cli.add_command(keep_records)


def _data(context: click.Context, option: click.Parameter, uri: str | None) -> str | None:
    """Tasks run in other folders, so that they need the whole path."""
    if uri is None or is_remote(uri):
        return uri
    if not Path(uri).is_dir():
        raise click.BadParameter(f"{uri!r} is no folder; give an existing one, or s3://bucket/prefix", context, option)
    return str(Path(uri).resolve())


def _home(function: Callable[..., None]) -> Callable[..., None]:
    """The options that say where runs, stores and data are."""
    options = [
        click.option("--home", metavar="URI", default="runs", show_default=True, help="Home of all runs: a folder or s3://bucket/prefix."),
        click.option("--data", metavar="URI", callback=_data, help="What {data} in a profile stands for: a folder or s3://bucket/prefix."),
        *(
            click.option(f"--{name}", metavar="URI", help=f"Store of {what}: a folder or s3://bucket/prefix.")
            for name, what in _STORES.items()
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


_STORES = {"responses": "the teacher's answers", "checkpoints": "work in progress", "models": "published models"}


def _use_data(data: str | None) -> None:
    if data is not None:
        os.environ[data_folder.VARIABLE] = data


@cli.command()
@click.option("--profile", default="tiny", show_default=True, help="Name of a profile, or a YAML file: path or s3://bucket/key.")
@click.option("--set", "overrides", multiple=True, metavar="NAME=VALUE", help="Change one parameter, for example sft.learning_rate=1e-5.")
@click.option("--seed", type=int, help="Short for --set seed=N.")
@click.option(
    "--runner", type=click.Choice(["process", "docker"]), default="process", show_default=True, help="Run tasks as processes or containers."
)
@click.option("--images", "table", metavar="URI", default=DEFAULT_TABLE, show_default=True, help="Table of built images (docker).")
@click.option("--network", default="bridge", show_default=True, help="Docker network that reaches teacher, stores and gateway (docker).")
@click.option("--memory", default="", metavar="SIZE", help="Memory limit of each container, for example 8g (docker).")
@click.option("--dry-run", is_flag=True, help="Only say what the run will ask of the teacher, from a small real sample.")
@click.option("--sample", default=8, show_default=True, type=click.IntRange(min=1), help="Seeds of each kind in the sample (--dry-run).")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON (--dry-run).")
@_home
def run(
    profile: str,
    overrides: tuple[str, ...],
    seed: int | None,
    runner: str,
    table: str,
    network: str,
    memory: str,
    dry_run: bool,
    sample: int,
    as_json: bool,
    home: str,
    data: str | None,
    **stores: str | None,
) -> None:
    """Run a profile from seeds to report on this machine."""
    from pipelines.images.table import read_table
    from pipelines.local.runner import Docker, require_home, run_profile
    from pipelines.parameters import profile as parameters
    from pipelines.runs import record as run_record
    from pipelines.runs import summary

    _use_data(data)
    if seed is not None:
        overrides = (*overrides, f"seed={seed}")
    given = {name: uri for name, uri in stores.items() if uri}
    options = parameters.load(profile, overrides)
    if dry_run:
        require_home(home)
        _dry_run(profile, options, given.get("responses") or f"{home.rstrip('/')}/shared/responses", sample, as_json)
        return
    docker = None
    if runner == "docker":
        docker = Docker(read_table(table), network, memory)
    folder = run_profile(profile, options, home, given, docker=docker)
    click.echo(summary.text(run_record.read(folder)))
    click.echo(f"report: {folder / 'report.html'}" + (f", and in {home}/{folder.name}" if is_remote(home) else ""))


def _dry_run(profile: str, options: RunOptions, responses: str, sample: int, as_json: bool) -> None:
    """Take a sample; everything but its result goes to the standard error stream."""
    import contextlib
    import sys

    from components.core.metrics.progress import ProgressLines
    from pipelines.forecast.text import as_json as encoded
    from pipelines.forecast.text import text
    from pipelines.parameters.required_files import require_files

    require_files(options, profile)
    address = responses if is_remote(responses) else str(Path(responses.removeprefix("file://")).resolve())
    with contextlib.redirect_stdout(sys.stderr):
        lines = ProgressLines("sample", "0/1")
        found = options.method.dry_run(options, address, sample, lambda done, total: lines.show(done, total, "units"))
    click.echo(encoded(found) if as_json else text(found))


@cli.command()
@click.option("--profile", default="tiny", show_default=True, help="Name of a profile, or a YAML file: path or s3://bucket/key.")
@click.option("--set", "overrides", multiple=True, metavar="NAME=VALUE", help="Change one parameter, for example sampling.n=8.")
@click.option("--assume", "assumed", multiple=True, metavar="NAME=VALUE", help="Change one assumption, for example seeds=5000.")
@click.option("--like", metavar="URI", help="Record of a finished small run, whose requests' lengths are taken: a folder or s3://.")
def estimate(profile: str, overrides: tuple[str, ...], assumed: tuple[str, ...], like: str | None) -> None:
    """Say what a run will ask of teacher, GPUs and stores, without doing anything."""
    from components.core.records import StageRecord, read_records
    from components.core.store import fetched
    from pipelines.forecast.estimate import text
    from pipelines.parameters import profile as parameters

    options = parameters.load(profile, overrides)
    estimator, values = options.method.estimator, dict[str, object]()
    if like:
        with fetched(f"{like.rstrip('/')}/ledger.jsonl") as path:
            values.update(estimator.measured(read_records(path, StageRecord)))
    chosen = estimator.assume(parameters.assignments(assumed, values))
    click.echo(text(estimator.estimate(options, chosen), chosen))


@cli.command()
def profiles() -> None:
    """List the profiles that come with TutorLoop."""
    from pipelines.parameters import profile as parameters

    for name in parameters.profile_names():
        found = parameters.load(name)
        click.echo(f"{name:<16} {found.method.title}: {found.profile.description}")


@cli.command()
@click.option("--port", default=0, show_default=True, help="Port; 0 lets the operating system choose.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--answer-key", multiple=True, metavar="URI", help="Problems with worked solutions (JSON Lines), path or s3://; repeatable.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="An option of the server, for example faults.latency_s=0.2.")
def teacher(port: int, host: str, answer_key: tuple[str, ...], settings: tuple[str, ...]) -> None:
    """Start the offline teacher: an OpenAI-compatible server that needs no model."""
    import asyncio
    import contextlib

    from components.core.options import parse_options
    from components.offline_teacher.options import OfflineTeacherOptions
    from components.offline_teacher.server import serve
    from pipelines.parameters.profile import assignments

    values = {"host": host, "port": port, "answer_key": list(answer_key), **assignments(settings)}
    options = parse_options(OfflineTeacherOptions, values, "offline_teacher")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(options, lambda url: click.echo(f"offline teacher at {url}")))


@cli.command()
@click.argument("run_name", metavar="RUN")
@click.argument("stage")
@click.option("--dropped", is_flag=True, help="Rows that the stage dropped, each with its reason, rather than those it handed on.")
@click.option("--reason", default="", help="Only rows dropped for this reason (--dropped).")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(min=0), help="Most rows; 0 for all.")
@click.option("--home", metavar="URI", default="runs", show_default=True, help="Home of all runs: a folder or s3://bucket/prefix.")
def rows(run_name: str, stage: str, dropped: bool, reason: str, limit: int, home: str) -> None:
    """Show rows of a STAGE (solving) or task ("sampling M1") of a RUN, or of the latest one, as JSON Lines."""
    from pipelines.runs.rows import show

    show(home, run_name, stage, dropped=dropped or bool(reason), reason=reason, limit=limit)


@cli.command()
@click.option("--profile", default="tiny", show_default=True, help="Name of a profile, or a YAML file: path or s3://bucket/key.")
@click.option("--arm", "arms", multiple=True, metavar="NAME:SETTING[;SETTING...]", help="An arm and what it changes; once for each arm.")
@click.option("--seeds", default="0,1,2", show_default=True, help="Seeds, separated by commas.")
@_home
def study(profile: str, arms: tuple[str, ...], seeds: str, home: str, data: str | None, **stores: str | None) -> None:
    """Rerun a profile over seeds and arms; print the table with paired intervals."""
    from pipelines.local.study import run_study

    _use_data(data)
    click.echo(run_study(profile, arms, seeds, home, {name: uri for name, uri in stores.items() if uri}))


def main() -> None:
    """Entry point: an error that a person can act on is shown without a traceback."""
    with readable_errors():
        cli()
