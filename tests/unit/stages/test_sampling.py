"""The sampling stage: which problems, which samples, what survives a kill."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import EmptyOutputError
from components.core.options import parse_options
from components.core.records import Sample, read_records, write_records
from components.core.stage import StageRun
from components.core.store import open_store
from components.sampling.choice import choose, distinct_problems
from components.sampling.options import SamplingOptions
from components.sampling.stage import run
from tests.support.kills import Killed
from tests.support.student_material import demonstrations, make_model

ROOT = Path(__file__).parents[3]
PROBLEMS = [(f"id{index}", f"question {index}") for index in range(20)]
BASICS: dict[str, Any] = {"n": 2, "max_new_tokens": 12, "batch_size": 16, "chunk_size": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sampling")
    write_records(folder / "train.jsonl", demonstrations(14))
    make_model(folder / "M0")
    return folder


@pytest.fixture(scope="module")
def whole(folder: Path) -> list[Sample]:
    return sample(folder)[0]


def sample(folder: Path, shard: str = "0/1", round_number: int = 1, **options: Any) -> tuple[list[Sample], StageRun]:
    stage = StageRun("sampling", shard=shard)
    output = folder / "samples.jsonl"
    run(
        str(folder / "M0"),
        str(folder / "train.jsonl"),
        parse_options(SamplingOptions, {**BASICS, **options}, "sampling"),
        stage,
        checkpoints=str(folder / "checkpoints"),
        round_number=round_number,
        seed=4,
        output=str(output),
    )
    return list(read_records(output, Sample)), stage


def test_every_problem_gets_its_samples(folder: Path, whole: list[Sample]) -> None:
    rows, stage = sample(folder)
    assert rows == whole
    assert len(rows) == 28 and len({row.id for row in rows}) == 28 and len({row.seed for row in rows}) == 28
    assert {row.problem_id for row in rows} == {row.problem_id for row in demonstrations(14)}
    assert {(row.model, row.temperature, row.top_p) for row in rows} == {("M0", 0.7, 0.95)}
    assert (stage.rows_in, stage.rows_kept) == (14, 28)
    assert stage.counts["tokens"] == sum(row.tokens for row in rows)
    assert stage.latest["tokens_per_second"] > 0
    assert stage.counts["cut_at_max_new_tokens"] == sum(row.finish == "length" for row in rows)
    assert not list(open_store(str(folder / "checkpoints")).list())


@pytest.mark.parametrize("options", [{"batch_size": 3}, {"chunk_size": 100, "workers": 2}])
def test_samples_do_not_depend_on_how_the_work_is_cut(folder: Path, whole: list[Sample], options: dict[str, Any]) -> None:
    assert sample(folder, **options)[0] == whole


def test_shards_together_make_the_whole(folder: Path, whole: list[Sample]) -> None:
    parts = [sample(folder, f"{index}/3")[0] for index in range(3)]
    assert sorted((row for part in parts for row in part), key=lambda row: (row.problem_id, row.sample)) == whole
    assert all(len(part) < len(whole) for part in parts)


def test_rounds_differ_in_their_seeds(folder: Path, whole: list[Sample]) -> None:
    later = sample(folder, round_number=2)[0]
    assert not {row.seed for row in later} & {row.seed for row in whole}


KILLED = """
import json, os, signal, sys
from components.core.options import parse_options
from components.core.stage import StageRun
from components.sampling.options import SamplingOptions
from components.sampling.stage import run

class Killed(StageRun):
    def progress(self, done, total, unit="rows", force=False):
        if done > 8:
            os.kill(os.getpid(), signal.SIGKILL)

folder, options = sys.argv[1:]
run(folder + "/M0", folder + "/train.jsonl", parse_options(SamplingOptions, json.loads(options), "sampling"), Killed("sampling"),
    checkpoints=folder + "/checkpoints", round_number=1, seed=4, output=folder + "/killed.jsonl")
"""


def test_a_killed_task_keeps_its_finished_chunks(folder: Path, whole: list[Sample]) -> None:
    import json

    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), json.dumps(BASICS)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (folder / "killed.jsonl").exists()
    rows, stage = sample(folder, batch_size=5)
    assert stage.counts["resumed_problems"] == 8
    assert rows == whole


def test_finished_chunks_go_only_when_the_output_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dying(*arguments: object) -> int:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("components.sampling.stage.write_records", dying)
        sample(folder, round_number=3)
    rows, stage = sample(folder, round_number=3)
    assert stage.counts["resumed_problems"] == len({row.problem_id for row in rows}) > 0


def test_no_problem_to_practise_on(folder: Path, tmp_path: Path) -> None:
    write_records(tmp_path / "train.jsonl", [])
    (tmp_path / "M0").symlink_to(folder / "M0")
    with pytest.raises(EmptyOutputError):
        sample(tmp_path)


@pytest.mark.parametrize("count", [0, 20, 99])
def test_all_problems_when_so_many_are_wanted(count: int) -> None:
    assert choose(PROBLEMS, count=count, fresh=False, round_number=2, seed=0) == PROBLEMS


def test_the_same_problems_or_fresh_ones() -> None:
    same = [choose(PROBLEMS, count=6, fresh=False, round_number=number, seed=0) for number in (1, 2)]
    fresh = [set(choose(PROBLEMS, count=6, fresh=True, round_number=number, seed=0)) for number in (1, 2, 3, 4)]
    assert same[0] == same[1] and len(set(same[0])) == 6 and set(same[0]) == fresh[0]
    assert len(fresh[0] | fresh[1] | fresh[2]) == 18
    assert len(fresh[3]) == 6 and set(PROBLEMS) == set.union(*fresh)
    assert set(choose(PROBLEMS, count=6, fresh=False, round_number=1, seed=1)) != fresh[0]
    without = [problem for problem in PROBLEMS if problem not in fresh[1]]
    assert set(choose(without, count=6, fresh=False, round_number=1, seed=0)) == fresh[0]


def test_problems_with_several_solutions_count_once() -> None:
    rows = demonstrations(3)
    assert distinct_problems(rows + rows) == [(row.problem_id, row.question) for row in rows]
