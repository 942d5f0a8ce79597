"""Collect seed problems and benchmarks from their sources into one list of ``Problem`` rows each."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from components.core.data_folder import expand
from components.core.errors import ParameterError
from components.core.records import Problem, write_records
from components.core.stage import StageRun
from components.core.store import sha256_of
from components.seeds.adapters import to_problem
from components.seeds.builtin import builtin_problems
from components.seeds.files import RawRow, locate, read_rows
from components.seeds.formats import FormatError
from components.seeds.hub import PREFIX, hub_rows
from components.seeds.options import SeedsOptions, SourceOptions
from components.seeds.select import keep_wanted, limit_rows


def collect_seeds(output: Path, options: SeedsOptions, seed: int, stage: StageRun) -> None:
    """Write the seed problems: train and dev splits only, exact duplicates across all sources removed.

    Args:
        output: JSON Lines file of ``Problem`` rows.
        options: The sources.
        seed: The run's seed, for limits and the built-in problems.
        stage: Receives counts per source, drops by reason, and files with digests and licences as lineage.

    Raises:
        InputError: A missing, unreadable or malformed file.
        ParameterError: A split that a hub data set does not have, limits that leave no room for so many problems, or no data folder.
        EmptyOutputError: No row is left.
    """
    _collect(output, options, seed, stage, seeds=True)


def collect_benchmarks(output: Path, options: SeedsOptions, seed: int, stage: StageRun) -> None:
    """Write the benchmark problems: dev and test rows, told apart by their source's name.

    Arguments and errors are those of ``collect_seeds``. Duplicates are removed within each benchmark.
    """
    _collect(output, options, seed, stage, seeds=False)


def _collect(output: Path, options: SeedsOptions, seed: int, stage: StageRun, *, seeds: bool) -> None:
    role = "seeds" if seeds else "benchmarks"
    kept: list[Problem] = []
    facts: list[dict[str, Any]] = []
    seen: dict[str, str | None] = {}
    for index, source in enumerate(options.sources):
        stage.progress(index, len(options.sources), "sources")
        collector = _Collector(source, source.split_read(seeds=seeds), seeds, f"{role}.sources[{index}]", stage)
        rows = collector.collect(seed, seen if seeds else {})
        kept.extend(rows)
        facts.append(collector.facts(rows))
        stage.counts[f"rows_{source.label}"] = stage.counts.get(f"rows_{source.label}", 0) + len(rows)
    if seeds:
        for problem in kept:
            stage.example("seed", problem)
    stage.lineage["sources"] = facts
    stage.rows_kept = len(kept)
    stage.require_rows(role)
    write_records(output, kept)
    stage.progress(len(options.sources), len(options.sources), "sources", force=True)


class _Collector:
    """Reads one source and remembers what the lineage wants to know."""

    def __init__(self, source: SourceOptions, split: str, seeds: bool, where: str, stage: StageRun) -> None:
        self._source = source
        self._split = split
        self._seeds = seeds
        self._where = where
        self._stage = stage
        self._files: list[dict[str, str]] = []
        self._rows = 0

    def collect(self, seed: int, seen: dict[str, str | None]) -> list[Problem]:
        own_seed = self._source.seed if self._source.seed >= 0 else seed
        split = "dev" if self._source.dev_share and not self._seeds else self._split
        if self._source.adapter == "builtin":
            problems = self._builtin(split, own_seed)
            self._rows = len(problems)
            self._stage.rows_in += len(problems)
            kept = keep_wanted(problems, self._source, self._seeds, seen, self._stage.drop)
        else:
            with tempfile.TemporaryDirectory() as scratch:
                parsed = self._parsed(split, Path(scratch))
                kept = keep_wanted(parsed, self._source, self._seeds, seen, self._stage.drop)
        return limit_rows(kept, self._source.limit, own_seed, self._stage.drop)

    def facts(self, kept: list[Problem]) -> dict[str, Any]:
        """What the lineage card says of this source; the URI as the user wrote it, so that no machine's path is published."""
        return {
            "source": self._source.label,
            "adapter": self._source.adapter,
            "uri": self._source.uri,
            "split": self._split,
            "dev_share": self._source.dev_share,
            "licences": sorted({problem.licence for problem in kept}),
            "files": self._files,
            "rows": self._rows,
            "kept": len(kept),
        }

    def _builtin(self, split: str, seed: int) -> list[Problem]:
        try:
            return builtin_problems(self._source, split, seed)
        except ParameterError as error:
            raise ParameterError(f"{self._where}.{error.name}", error.value, error.allowed) from error

    def _parsed(self, split: str, scratch: Path) -> Iterator[Problem]:
        for row in self._raw_rows(scratch):
            self._rows += 1
            self._stage.rows_in += 1
            try:
                problem, claimed = to_problem(row, self._source, split, need_answer=not self._seeds)
            except FormatError as error:
                if self._source.malformed == "fail":
                    raise row.error(str(error)) from error
                self._stage.drop("malformed", row=dict(row.data))
                continue
            if claimed and claimed != self._split:
                self._stage.drop("other_split", row=problem)
                continue
            yield problem

    def _raw_rows(self, scratch: Path) -> Iterator[RawRow]:
        uri = expand(self._source.uri, f"{self._where}.uri")
        if not uri.startswith(PREFIX):
            for path in locate(uri, self._split, scratch):
                self._files.append({"name": path.name, "sha256": sha256_of(path)})
                yield from read_rows(path)
            return
        digest = hashlib.sha256()
        try:
            for row in hub_rows(uri, self._split, self._source.config, self._source.revision):
                digest.update(msgspec.json.encode(row.data))
                yield row
        except ParameterError as error:
            raise ParameterError(f"{self._where}.{error.name}", error.value, error.allowed) from error
        self._files.append({"name": uri.removeprefix(PREFIX), "sha256_of_rows": digest.hexdigest()})
