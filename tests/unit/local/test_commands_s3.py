"""The commands take ``s3://`` wherever they take a path."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import msgspec
import pytest
import yaml
from click.testing import CliRunner

from components.core.data_folder import VARIABLE
from components.core.errors import InputError, StoreError
from components.core.options import parse_options
from components.core.records import Problem, problem_id, read_records, write_records
from components.core.stage import StageRun
from components.core.store import open_store
from components.judging.golden import golden_rows
from components.seeds.options import SeedsOptions
from components.seeds.stage import collect_seeds
from components.seeds.version import sources_version
from pipelines.cli.main import cli
from pipelines.parameters import profile as parameters
from pipelines.runs import record as run_record
from tests.support.ports import NOBODY
from tests.support.processes import stop

ROOT = Path(__file__).parents[3]
SMOKE = ROOT / "tests" / "local" / "smoke.yaml"
TUTORLOOP = [sys.executable, "-c", "from pipelines.cli.main import main; main()"]
QUESTION = "How many moons has a planet that nobody has seen?"
ROW = {"question": QUESTION, "answer": "None that we know of.\n#### 0"}
SOURCE = {"adapter": "gsm8k", "uri": "{data}/gsm8k"}


@pytest.fixture
def data(s3_bucket: str) -> str:
    """A data folder on S3."""
    store = open_store(f"{s3_bucket}/data")
    store.write("gsm8k/train.jsonl", json.dumps(ROW).encode())
    golden = {"question": QUESTION, "reference": "0", "response": "#### 0", "correct": True}
    store.write("golden.jsonl", json.dumps(golden).encode())
    return store.uri


def test_a_run_takes_profile_data_and_stores_from_s3(s3_bucket: str, data: str, tmp_path: Path) -> None:
    profile = yaml.safe_load(SMOKE.read_text())
    profile["answer_key"] = [SOURCE]
    profile["judge_teacher"] = profile["teacher"]
    # Where the run ends: behind everything that it reads before its first task.
    profile["teacher"] = {"base_url": f"http://{NOBODY}/v1", "model": "m"}
    open_store(s3_bucket).write("profiles/mine.yaml", yaml.safe_dump(profile).encode())
    command = [*TUTORLOOP, "run", "--profile", f"{s3_bucket}/profiles/mine.yaml", "--home", str(tmp_path), "--data", data]
    stores = [part for name in ("responses", "checkpoints", "models") for part in (f"--{name}", f"{s3_bucket}/{name}")]
    done = subprocess.run([*command, *stores], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, f"http://{NOBODY}/v1" in done.stderr) == (1, True), done.stderr
    record = run_record.read(tmp_path / "latest")
    assert record.id.endswith("-mine")
    assert record.parameters["answer_key"] == [SOURCE]
    (row,) = read_records(tmp_path / "latest" / "answer_key.jsonl", Problem)
    assert (row.question, row.answer) == (QUESTION, "0")


def test_sources_and_golden_sets_lie_on_s3(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (data, f"{data}/"):
        monkeypatch.setenv(VARIABLE, folder)
        options = parse_options(SeedsOptions, {"sources": [SOURCE]}, "seeds")
        collect_seeds(tmp_path / "seeds.jsonl", options, 0, StageRun("seeds"))
        assert [row.question for row in read_records(tmp_path / "seeds.jsonl", Problem)] == [QUESTION]
        assert golden_rows(["{data}/golden.jsonl"])[-1].question == QUESTION
    before = sources_version(options, "seeds")
    open_store(data).write("gsm8k/train.jsonl", json.dumps({**ROW, "answer": "#### 1"}).encode())
    assert sources_version(options, "seeds") != before


def test_what_is_not_on_s3_is_named(s3_bucket: str, data: str) -> None:
    with pytest.raises(InputError, match=r"s3://.*/none\.yaml: no such profile"):
        parameters.load(f"{s3_bucket}/none.yaml")
    with pytest.raises(InputError, match=r"s3://.*golden\.yaml: not a mapping"):
        open_store(data).write("golden.yaml", b"- 1")
        parameters.load(f"{data}/golden.yaml")
    with pytest.raises(StoreError, match="no bucket 'no-such-bucket-here'"):
        parameters.load("s3://no-such-bucket-here/my.yaml")
    result = CliRunner().invoke(cli, ["run", "--data", "none"])
    assert result.exit_code == 2 and "give an existing one, or s3://bucket/prefix" in result.output


def test_the_teacher_takes_answer_keys_from_s3(s3_bucket: str, tmp_path: Path) -> None:
    problem = Problem(id=problem_id(QUESTION), source="s", split="train", question=QUESTION, answer="0", licence="MIT")
    write_records(tmp_path / "key.jsonl", [problem])
    open_store(s3_bucket).upload(tmp_path / "key.jsonl", "keys/key.jsonl")
    command = [*TUTORLOOP, "teacher", "--answer-key", f"{s3_bucket}/keys/key.jsonl"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        messages = [{"role": "system", "content": "Task: solve"}, {"role": "user", "content": f"Problem: {QUESTION}"}]
        request = urllib.request.Request(
            f"{address}/chat/completions", msgspec.json.encode({"model": "m", "messages": messages}), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as response:
            assert json.load(response)["choices"][0]["message"]["content"].endswith("#### 0")
    finally:
        stop(process)
