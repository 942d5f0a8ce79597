"""``tutorloop images``, ``compile`` and ``release``: the containers of the stages, packages that name them, and what a cluster runs."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import click

from components.core.errors import ParameterError
from components.core.store import fetched, put
from pipelines.images.table import DEFAULT_TABLE


@click.group()
def images() -> None:
    """Container images of the stages: their names, building and pushing them."""


_build_arg = click.option(
    "--build-arg",
    "build_args",
    multiple=True,
    metavar="NAME=VALUE",
    help="TORCH=cpu, HUB=yes, BASE_IMAGE=...; for the images that have it.",
)


@images.command("list")
@_build_arg
def list_images(build_args: Sequence[str]) -> None:
    """Show what each image is called for the code as it is, and whether docker has it."""
    from pipelines.images.build import present
    from pipelines.images.table import REPOSITORIES, version

    given = _arguments(build_args)
    for name, repository in REPOSITORIES.items():
        reference = f"{repository}:{version(name, given[name])}"
        click.echo(f"{name:<16} {reference}{'' if present(reference) else '  (not built)'}")


@images.command()
@click.argument("names", nargs=-1)
@_build_arg
@click.option("--registry", default="", metavar="PREFIX", help="Prefix of the repositories, for example ghcr.io/acme.")
@click.option("--push", is_flag=True, help="Push, and refer to the images by digest.")
@click.option("--wheelhouse", metavar="URI", help="Wheels that no index has: a folder or s3://bucket/prefix.")
@click.option("--ca-cert", metavar="URI", help="Certificates for downloads: a PEM file or s3://bucket/key.")
@click.option("--again", is_flag=True, help="Build what is there already, too.")
@click.option("--table", metavar="URI", default=DEFAULT_TABLE, show_default=True, help="Table to write: a file or s3://bucket/key.")
def build(
    names: Sequence[str],
    build_args: Sequence[str],
    registry: str,
    push: bool,
    wheelhouse: str | None,
    ca_cert: str | None,
    again: bool,
    table: str,
) -> None:
    """Build images (all of them when none is named) and note them in the table that compile and run read."""
    from pipelines.images import build as image_build
    from pipelines.images.table import REPOSITORIES, add_to_table

    for name in names:
        if name not in REPOSITORIES:
            raise ParameterError("image", name, ", ".join(REPOSITORIES))
    given = _arguments(build_args)
    with contextlib.ExitStack() as stack:
        wheels = stack.enter_context(fetched(wheelhouse)) if wheelhouse else None
        certificate = stack.enter_context(fetched(ca_cert)) if ca_cert else None
        for name in names or REPOSITORIES:
            image = image_build.build(
                name, arguments=given[name], registry=registry, wheelhouse=wheels, certificate=certificate, again=again
            )
            image = image_build.push(image) if push else image
            add_to_table(image, table, image_build.there)
            click.echo(f"{name:<16} {image.reference}")
    click.echo(f"table: {table}")


@click.command("compile")
@click.option(
    "--profile", default="tiny", show_default=True, help="Name of a profile, or a YAML file: its method, shape, engines and pods."
)
@click.option("--set", "overrides", multiple=True, metavar="NAME=VALUE", help="Change one parameter, for example cluster.queue=gpus.")
@click.option("--images", "table", metavar="URI", default=DEFAULT_TABLE, show_default=True, help="Table of built images.")
@click.option("--out", metavar="URI", help="Package to write: a file or s3://bucket/key; build/METHOD.yaml without it.")
def compile_package(profile: str, overrides: Sequence[str], table: str, out: str | None) -> None:
    """Write the compiled pipeline with the images that are built and the parameters of a profile, ready to upload to Kubeflow."""
    from pipelines.images.table import images_of, read_table
    from pipelines.packages.finished import finished_package
    from pipelines.parameters.profile import load

    options = load(profile, overrides)
    package = finished_package(options, read_table(table), profile=profile)
    out = out or f"build/{options.method.name}.yaml"
    put(out, package.encode())
    click.echo(f"package: {out}")
    _tell_weight(package)
    if not all("@sha256:" in image for image in images_of(package)):
        click.echo("it names images that were not pushed: a cluster finds them only if they are loaded into it", err=True)


@click.command()
@click.argument("overlay", type=click.Path(path_type=Path))
@click.option("--profile", "profiles", multiple=True, required=True, metavar="NAME", help="A profile, or a YAML file; repeatable.")
@click.option("--images", "table", metavar="URI", default=DEFAULT_TABLE, show_default=True, help="Table of built images.")
def release(overlay: Path, profiles: Sequence[str], table: str) -> None:
    """Write what an overlay of manifests/ runs: images and packages, ready to be committed."""
    from pipelines.images.table import read_table
    from pipelines.packages import release as releases
    from pipelines.parameters.profile import load

    written = releases.release(overlay, {Path(name).stem: load(name) for name in profiles}, read_table(table))
    for path in written:
        click.echo(str(path))
        if path.parent.name == "packages" and path.name != "kustomization.yaml":
            _tell_weight(path.read_text())


def _tell_weight(package: str) -> None:
    from pipelines.packages.checks.ir import Package
    from pipelines.packages.checks.workflow_size import weigh

    click.echo(f"  a run's workflow at its end: {weigh(Package.parse(package))}")


def _arguments(given: Sequence[str]) -> dict[str, dict[str, str]]:
    """Build arguments by image: each goes to the images that have it.

    Raises:
        ParameterError: Not of the form NAME=VALUE, or no image has it.
    """
    from pipelines.images.table import REPOSITORIES, arguments

    known = {name: arguments(name) for name in REPOSITORIES}
    found: dict[str, dict[str, str]] = {name: {} for name in REPOSITORIES}
    for text in given:
        key, separator, value = text.partition("=")
        takers = [name for name in REPOSITORIES if key in known[name]]
        if not separator or not takers:
            raise ParameterError(
                "--build-arg", text, "NAME=VALUE with one of " + ", ".join(sorted({key for own in known.values() for key in own}))
            )
        for name in takers:
            if known[name][key] != value:
                found[name][key] = value
    return found
