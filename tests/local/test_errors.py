"""What a person sees when something is wrong: what, where, what to do; before anything is paid for or trained."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.offline_teacher.background import start_background
from components.offline_teacher.options import OfflineTeacherOptions
from tests.local import command
from tests.support import ports
from tests.support.scripted_teacher import Answer, scripted_teacher

pytestmark = pytest.mark.pipeline


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port on which nothing listens."""
    with ports.closed_port() as port:
        yield port


def fails(home: Path, *arguments: str, environment: dict[str, str] | None = None) -> str:
    """Run, expect a failure without a traceback, and return what was printed."""
    status, output = command.run(home, *arguments, environment=environment)
    assert status == 1, output
    assert "Traceback" not in output
    assert "synthesize" not in output and "sft" not in output.replace("sft.", ""), "work was started"
    return output


def test_wrong_parameter(tmp_path: Path) -> None:
    output = fails(tmp_path, "--set", "sft.learning_rat=1")
    assert "sft.learning_rat = 1 is not valid" in output and "learning_rate" in output
    assert not (tmp_path / "latest").exists()


def test_missing_input_file(tmp_path: Path) -> None:
    source = json.dumps([{"adapter": "jsonl", "uri": str(tmp_path / "none.jsonl"), "licence": "x"}])
    output = fails(tmp_path, "--set", f"seeds.sources={source}")
    assert "seeds.sources[0].uri" in output and "none.jsonl" in output and "no such file" in output
    assert not (tmp_path / "latest").exists()


def test_malformed_input_file(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"question": "One and one?", "answer": "2"}\n{"question": 3\n')
    source = json.dumps([{"adapter": "jsonl", "uri": str(tmp_path / "bad.jsonl"), "licence": "x"}])
    assert "bad.jsonl, line 2" in fails(tmp_path, "--set", f"seeds.sources={source}")


def test_unreachable_teacher(tmp_path: Path, closed_port: int) -> None:
    address = f"http://127.0.0.1:{closed_port}/v1"
    output = fails(tmp_path, "--set", f"teacher.base_url={address}")
    assert address in output and "what to do" in output and "collect" not in output


def test_teacher_that_refuses_the_key(tmp_path: Path) -> None:
    with start_background(environment={"TUTORLOOP_OFFLINE_TEACHER_KEY": "the-right-key"}) as teacher:
        environment = {"TUTORLOOP_TEACHER_API_KEY": "sk-a-wrong-key"}
        output = fails(tmp_path, "--set", f"teacher.base_url={teacher.url}", environment=environment)
    assert "TUTORLOOP_TEACHER_API_KEY" in output and "sk-a-wrong-key" not in output and "collect" not in output


def test_teacher_that_only_streams(tmp_path: Path) -> None:
    with start_background(OfflineTeacherOptions(modes=("stream_only",))) as teacher:
        output = fails(tmp_path, "--set", f"teacher.base_url={teacher.url}")
    assert "what to do: set teacher.stream: true" in output and "collect" not in output


def test_teacher_that_does_not_offer_the_model(tmp_path: Path) -> None:
    """The one request that it gets is the preflight's."""
    refused = Answer(404, {"error": {"message": "The model does not exist", "code": "model_not_found"}})
    with scripted_teacher(lambda _: refused, models=["gpt-large", "gpt-small"]) as server:
        output = fails(tmp_path, "--set", f"teacher.base_url={server.url}", "--set", "teacher.model=gpt-larg")
        assert {body["model"] for body in server.requests} == {"gpt-larg"}
    assert "does not offer the model 'gpt-larg'" in output and "collect" not in output
    assert "what to do: set teacher.model to one of: gpt-large, gpt-small" in output


def test_unreachable_store(tmp_path: Path, closed_port: int) -> None:
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{closed_port}",
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "sk-secret-of-the-store",
    }
    output = fails(tmp_path, "--responses", "s3://responses/tutorloop", environment=environment)
    assert str(closed_port) in output and "sk-secret-of-the-store" not in output and "collect" not in output


def test_model_that_does_not_load(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    output = fails(tmp_path, "--set", f"student.base_model={tmp_path / 'model'}")
    assert str(tmp_path / "model") in output and "what to do" in output


def test_empty_output_tells_the_counts_that_led_there(tmp_path: Path) -> None:
    output = fails(tmp_path, "--set", "seeds.sources=[{adapter: builtin, count: 7, max_question_chars: 3}]")
    assert "7 rows in" in output and "dropped: 7" in output
