"""``tutorloop store``: what the response store holds, whether it is whole, and making it smaller."""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from components.core.errors import StoreError, reason_of
from components.core.store import Store, is_remote, open_store
from components.core.store.whole_files import replacing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from components.teacher.responses.survey import Share, Statistics

PROGRESS_EVERY_S = 5.0
SHOWN = 10


@click.group()
def store() -> None:
    """Look into the store of the teacher's answers, check it, take replies out, make it smaller."""


def _address(function: Callable[..., None]) -> Callable[..., None]:
    """Which store: an argument, or that of a home."""
    home = click.option("--home", metavar="URI", default="runs", show_default=True, help="Home of all runs, when no ADDRESS is given.")
    return click.argument("address", default="")(home(function))


def _open(address: str, home: str) -> Store:
    where = address or f"{home.rstrip('/')}/shared/responses"
    if not is_remote(where) and not Path(where.removeprefix("file://")).is_dir():
        raise StoreError(f"{where}: there is no such folder", "name the store's address: a folder, or s3://bucket/prefix")
    return open_store(where)


def _progress() -> Callable[[int, int], None]:
    """Prints now and then how far a long reading has come."""
    began = told = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= PROGRESS_EVERY_S and done < total:
            told = now
            left = (now - began) * (total - done) / done
            click.echo(f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB, {left:.0f} s left", err=True)

    return tell


@store.command()
@_address
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def stats(address: str, home: str, as_json: bool) -> None:
    """Count replies, tokens and dollars by run, model and day. ADDRESS is a folder or s3://bucket/prefix."""
    import msgspec

    from components.teacher.responses.survey import statistics

    found = statistics(_open(address, home), _progress())
    click.echo(msgspec.json.format(msgspec.json.encode(found)).decode() if as_json else _text(found))


def _text(found: Statistics) -> str:
    total = found.total
    lines = [
        f"{found.replies:,} replies to {found.distinct:,} requests ({found.duplicates:,} paid for more than once), "
        f"{total.tokens:,.0f} tokens, {total.usd:,.4f} dollars",
        f"{found.bytes / 1e6:,.1f} MB in {found.segments:,} segments; {found.loose:,} loose, {found.without_index:,} without an index",
    ]
    if found.unusable:
        lines.append(f"{found.unusable:,} replies were charged and hold no usable text")
    if found.damaged:
        lines.append(f"{found.damaged:,} damaged replies: `tutorloop store verify` tells where")
    for title, shares in (("run", found.by_run), ("model", found.by_model), ("day", found.by_day)):
        lines += ["", f"{title:<40} {'replies':>12} {'tokens':>16} {'dollars':>12}", *_rows(shares)]
    return "\n".join(lines)


def _rows(shares: dict[str, Share]) -> list[str]:
    return [f"{name or '-':<40} {one.replies:>12,} {one.tokens:>16,.0f} {one.usd:>12,.4f}" for name, one in sorted(shares.items())]


@store.command()
@_address
def verify(address: str, home: str) -> None:
    """Check every checksum and every key; end with status 1 when something is damaged."""
    from components.teacher.responses.survey import verify as check

    found = check(_open(address, home), _progress())
    for name, offsets in found.damaged.items():
        click.echo(f"{name}: {len(offsets)} damaged replies, at byte {_some(offsets)}")
    for name, offsets in found.foreign.items():
        click.echo(f"{name}: {len(offsets)} replies under keys that are not their requests', at byte {_some(offsets)}")
    for name, length in found.cut.items():
        click.echo(f"{name}: its last {length:,} bytes are missing")
    for name in found.wrong_indexes:
        click.echo(f"{name}: the index is damaged or tells something else than its segment holds")
    for name in found.torn:
        click.echo(f"{name}: the last line has no end, since its writer was killed or is writing: no damage")
    click.echo(f"{found.replies:,} intact replies in {found.segments:,} segments")
    if not found.intact:
        click.echo("damaged replies are never served and are asked again; `tutorloop store prune --damaged` drops them", err=True)
        raise SystemExit(1)


def _some(offsets: list[int]) -> str:
    return ", ".join(map(str, offsets[:SHOWN])) + (f" and {len(offsets) - SHOWN} more" if len(offsets) > SHOWN else "")


@store.command()
@_address
@click.option("--to", "target", metavar="FILE", type=click.Path(path_type=Path), help="Where it goes, whole or not at all; else printed.")
@click.option("--run", default="", metavar="NAME", help="Replies of this run only.")
@click.option("--model", default="", metavar="NAME", help="Replies of this model only.")
@click.option("--since", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]), help="Stored at this time (UTC) or later only.")
def export(address: str, home: str, target: Path | None, run: str, model: str, since: datetime.datetime | None) -> None:
    """Write requests and replies as JSON Lines."""
    import msgspec

    from components.teacher.responses.export import exported
    from components.teacher.responses.segments import safe_run

    skipped = 0

    def on_damage(name: str, offset: int) -> None:
        nonlocal skipped
        skipped += 1
        if skipped <= SHOWN:
            click.echo(f"{name}: skipped what is no whole chat completion, at byte {offset}", err=True)

    after = since.replace(tzinfo=datetime.UTC).timestamp() if since else 0.0
    rows = exported(_open(address, home), on_damage, run=safe_run(run) if run else "", model=model, since=after, progress=_progress())
    count = 0
    with _output(target) as handle:
        for row in rows:
            handle.write(msgspec.json.encode(row) + b"\n")
            count += 1
    click.echo(f"{count:,} replies exported" + (f", {skipped:,} skipped" if skipped else ""), err=True)


@contextmanager
def _output(target: Path | None) -> Iterator[BinaryIO]:
    if target is None:
        yield sys.stdout.buffer
        return
    try:
        with replacing(target) as partial, partial.open("wb") as handle:
            yield handle
    except OSError as error:
        raise StoreError(
            f"{target}: cannot be written ({reason_of(error)})", "name a file in a writable folder with enough space"
        ) from error


@store.command()
@_address
@click.option("--older-than", type=click.FloatRange(min=0, min_open=True), metavar="DAYS", help="Drop replies that are older.")
@click.option("--run", default="", metavar="NAME", help="Drop replies of this run; with other filters, those that all of them name.")
@click.option("--model", default="", metavar="NAME", help="Drop replies of this model.")
@click.option("--damaged", is_flag=True, help="Drop damaged lines.")
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Also segments written to within the last hour, which may have a living writer. Only while nothing writes.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
def prune(address: str, home: str, older_than: float | None, run: str, model: str, damaged: bool, everything: bool, dry_run: bool) -> None:
    """Pack small segments, make missing indexes, and drop what filters name. What is dropped is paid for again when it is asked again."""
    from components.teacher.responses.prune import Pruning, Rules
    from components.teacher.responses.segments import safe_run

    before = time.time() - older_than * 86_400 if older_than else 0.0
    rules = Rules(before, safe_run(run) if run else "", model, damaged, everything)
    done = Pruning(_open(address, home), rules, dry_run, click.echo).run()
    would = "would be " if dry_run else ""
    if done.alive:
        click.echo(f"{len(done.alive)} segments are left alone: written to within the last hour, or by a living process")
    if done.kept:
        click.echo(f"{len(done.kept)} objects that were packed stay: these keys may not delete; run it with the store's root keys")
    if not done.changes:
        click.echo("nothing to do")
        return
    for count, what in (
        (done.dropped, "replies {}dropped"),
        (done.damaged, "damaged replies {}dropped"),
        (len(done.left_over), "left-over segments and indexes {}removed"),
        (len(done.indexed), "segments {}indexed"),
    ):
        if count:
            click.echo(f"{count:,} " + what.format(would))
    if done.packed:
        click.echo(f"{len(done.packed):,} segments {would}written anew, as {len(done.into):,}")
