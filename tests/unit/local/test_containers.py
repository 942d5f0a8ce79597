"""What a task's container is given, and what it tells; the rest needs an engine (tests/images)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pipelines.local import containers
from pipelines.local.containers import DockerOptions
from pipelines.parameters import profile as parameters
from tests.conftest import ROOT


def options(**more: Any) -> DockerOptions:
    return DockerOptions(**{"teacher_image": "", "home": "/home", "artifacts": "/artifacts", **more})


def test_settings_and_keys_reach_the_task_and_the_machine_does_not() -> None:
    wanted = {
        "TUTORLOOP_TEACHER_API_KEY": "k", "TUTORLOOP_RUN": "r", "AWS_ENDPOINT_URL": "http://s", "AWS_SECRET_ACCESS_KEY": "s",
        "OPENAI_API_KEY": "o", "HF_TOKEN": "t", "https_proxy": "p", "NO_PROXY": "n", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    machine = {"PATH": "/bin", "HOME": "/root", "AWS_CA_BUNDLE": "/etc/ca", "AWS_PROFILE": "p", "PYTHONPATH": "/x", "HF_HOME": "/h"}
    assert containers.arguments(options(), {**wanted, **machine})["environment"] == wanted


def test_a_task_is_closed_in() -> None:
    given = containers.arguments(options(writable=["/stores"], readable=["/data"], memory="2g", network="inside"), {})
    assert given["read_only"] and given["cap_drop"] == ["ALL"] and given["security_opt"] == ["no-new-privileges"]
    assert given["network"] == "inside" and given["mem_limit"] == given["memswap_limit"] == "2g"
    assert given["labels"] == {containers.LABEL: "/home"}
    mounts = {mount["Target"]: mount.get("ReadOnly", False) for mount in given["mounts"]}
    assert mounts == {"/tmp": False, "/stores": False, "/data": True}


def test_lines_come_whole_however_the_stream_is_cut() -> None:
    chunks = iter([b"::progress {", b'"task"', b': "\xc3', b'\xbc"}\nsecond', b" line\nlast"])
    assert list(containers.whole_lines(chunks)) == ['::progress {"task": "\u00fc"}\n', "second line\n", "last\n"]


@pytest.mark.parametrize("function", [*containers.MEMORY_SETTINGS, "judge"])
def test_want_of_memory_is_told_with_parameters_that_exist(function: str) -> None:
    told = str(containers.out_of_memory(function, "300m"))
    assert "out of memory" in told and "300m" in told and "--memory" in told
    for name in re.findall(r"\b(?:sft|sampling|evaluation|preference_tuning|student)(?:\.\w+)+", told):
        parameters.load("tiny", [f"{name}={'tiny' if name == 'student.base_model' else 2}"])


def test_paths_of_this_machine_are_found_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "seeds.jsonl").touch()
    seeds = str(tmp_path / "seeds.jsonl")
    values = {
        "a": [{"uri": f"file://{seeds}"}, {"uri": "s3://bucket/x"}, f"gguf:{seeds}"],
        "b": str(tmp_path),
        "c": 1,
        "d": "/no/such/file",
    }
    assert containers.existing_paths(values) == [seeds, seeds, str(tmp_path)]


def test_dockerignore_hides_what_the_hash_leaves_out() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert {"**/__pycache__", "**/component.py"} <= set(lines)
