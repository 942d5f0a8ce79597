"""What closes the loop of recurring retraining: new seeds are seen, a run starts from base or champion as it is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from components.base_model.stage import run as base_model
from components.contamination.options import ContaminationOptions
from components.contamination.stage import run as decontaminate
from components.core.errors import GateError, ParameterError
from components.core.options import parse_options
from components.core.records import Demonstration, Problem, read_records, write_records
from components.core.stage import StageRun
from components.core.store import open_store
from components.promotion.component import starting_point
from components.promotion.registry import promote, publish_version
from components.seeds import version
from components.seeds.options import SeedsOptions
from components.seeds.stage import collect_seeds
from components.seeds.version import sources_version
from components.student.models.load import read_info, version_uri
from components.student.options import StudentOptions
from tests.support.s3 import s3_bucket, s3_server
from tests.support.student_material import SMALL, benchmark, demonstrations

__all__ = ["s3_bucket", "s3_server"]

TINY = StudentOptions(base_model="tiny", chat_format="plain", tiny=SMALL)


def seed_rows(*names: str) -> bytes:
    return b"".join(
        json.dumps({"question": f"{name} has 2 pens and buys 3 more. How many pens?", "answer": "5"}).encode() + b"\n" for name in names
    )


def test_new_seed_files_in_the_bucket_are_picked_up(s3_bucket: str, tmp_path: Path) -> None:
    folder = f"{s3_bucket}/seeds"
    options = parse_options(
        SeedsOptions, {"sources": [{"adapter": "jsonl", "uri": folder, "split": "train", "licence": "CC0-1.0", "name": "own"}]}, "seeds"
    )

    def collected() -> tuple[str, set[str]]:
        collect_seeds(tmp_path / "seeds.jsonl", options, 0, StageRun("seeds"))
        return sources_version(options, "seeds"), {row.question.split()[0] for row in read_records(tmp_path / "seeds.jsonl", Problem)}

    store = open_store(folder)
    store.write("week-1.jsonl", seed_rows("Ana", "Ben"))
    first, names = collected()
    assert names == {"Ana", "Ben"} and collected()[0] == first
    store.write("week-2.jsonl", seed_rows("Cleo"))
    second, names = collected()
    assert names == {"Ana", "Ben", "Cleo"} and second != first
    store.delete("week-2.jsonl")
    assert collected() == (first, {"Ana", "Ben"})


def test_no_result_is_taken_from_the_cache_for_longer_than_its_artifacts_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    options = parse_options(SeedsOptions, {"sources": [{"adapter": "builtin", "count": 1}]}, "seeds")

    def at(day: float) -> str:
        monkeypatch.setattr("components.seeds.version.time.time", lambda: day * 86_400)
        return sources_version(options, "seeds")

    unlimited = {at(day) for day in (0, 1000)}
    monkeypatch.setenv(version.CACHE_DAYS, "45")
    assert len(unlimited) == 1 and at(0) == at(44.9) != at(45.1) == at(89) and at(0) not in unlimited
    before = at(100)
    monkeypatch.setenv(version.CACHE_DAYS, "44")
    assert at(100) != before, "another number makes everything run again"
    monkeypatch.setenv(version.CACHE_DAYS, "often")
    with pytest.raises(ParameterError, match=version.CACHE_DAYS):
        at(0)


def published(tmp_path: Path, models: str, name: str, rows: list[Demonstration], origin: str = "") -> str:
    """Publish the base model of a run as a version that was trained on some rows, and make it the champion."""
    folder = tmp_path / name
    write_records(tmp_path / "none.jsonl", [])
    options = msgspec.structs.replace(TINY, start_from="champion")
    base_model(
        str(tmp_path / "none.jsonl"),
        options,
        StageRun("base_model"),
        start=origin,
        seed=len(name),
        output=str(folder),
        corpus=str(tmp_path / "c"),
    )
    write_records(tmp_path / f"{name}.jsonl", rows)
    files = {f"model/{path.name}": path for path in folder.iterdir()} | {"train.jsonl": tmp_path / f"{name}.jsonl"}
    store = open_store(models)
    before = starting_point.python_func(models=models, student={"start_from": "champion"}, records=str(tmp_path))
    version = publish_version(store, files)[0].version
    assert promote(store, version, before) == "moved"
    return version_uri(models, version)


@pytest.mark.parametrize("student", [{}, {"start_from": "base"}])
def test_a_run_starts_from_the_base_model_unless_it_is_told_otherwise(student: dict[str, Any], tmp_path: Path) -> None:
    published(tmp_path, str(tmp_path / "models"), "one", demonstrations(4))
    assert starting_point.python_func(models=str(tmp_path / "models"), student=student, records=str(tmp_path)) == ""


def test_a_run_starts_from_the_champion_once_there_is_one(tmp_path: Path, s3_bucket: str) -> None:
    models = f"{s3_bucket}/models"
    arguments = {"models": models, "student": {"start_from": "champion"}, "records": str(tmp_path)}
    assert starting_point.python_func(**arguments) == "", "the first run starts from the base model"
    rows = demonstrations(12)
    one = published(tmp_path, models, "one", rows[:6])
    two = published(tmp_path, models, "second", rows[6:], origin=one)
    assert version_uri(models, starting_point.python_func(**arguments)) == two

    stage = StageRun("base_model")
    write_records(tmp_path / "quiz.jsonl", benchmark(3))
    out, corpus = tmp_path / "M0", tmp_path / "corpus"
    options = msgspec.structs.replace(TINY, start_from="champion")
    base_model(str(tmp_path / "quiz.jsonl"), options, stage, start=two, seed=0, output=str(out), corpus=str(corpus))
    assert read_info(out).digest == read_info(tmp_path / "second").digest
    assert (read_info(out).name, read_info(out).base_model, read_info(out).chat_format) == ("M0", two, "plain")
    assert {row.question for row in read_records(corpus, Problem)} == {row.question for row in rows}, "its own rows and its ancestors'"


def test_what_the_champion_was_trained_on_is_checked_against_todays_benchmarks(tmp_path: Path) -> None:
    rows = demonstrations(6)
    one = published(tmp_path, str(tmp_path / "models"), "one", rows)
    stage = StageRun("base_model")
    write_records(tmp_path / "quiz.jsonl", benchmark(3))
    corpus = tmp_path / "corpus"
    base_model(str(tmp_path / "quiz.jsonl"), TINY, stage, start=one, seed=0, output=str(tmp_path / "M0"), corpus=str(corpus))
    write_records(tmp_path / "train.jsonl", demonstrations(20)[10:])
    leaked = [msgspec.structs.replace(row, question=rows[0].question) for row in benchmark(1)]
    write_records(tmp_path / "quiz.jsonl", leaked)
    with pytest.raises(GateError, match="corpus"):
        decontaminate(
            [tmp_path / "train.jsonl"],
            tmp_path / "quiz.jsonl",
            corpus,
            tmp_path / "out.jsonl",
            tmp_path / "matches.jsonl",
            ContaminationOptions(jaccard="report"),
            StageRun("contamination"),
        )
