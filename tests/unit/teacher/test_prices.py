"""Prices by model: what requests cost, and limits in dollars that need them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format, struct_pb2  # type: ignore[import-untyped]

from components.core.errors import ParameterError
from components.core.options import parse_options
from components.core.redaction import redact_json
from components.teacher.options import Price, TeacherOptions
from pipelines.parameters import profile as parameters

TABLE = {"gpt-4.1-mini": {"prompt": 0.4, "completion": 1.6}, "org/some-model.v2": {"prompt": 1, "completion": 3}}


def through_kubeflow(values: dict[str, Any]) -> dict[str, Any]:
    """What a task gets of a parameter: KFP carries it as a Struct."""
    carried: dict[str, Any] = json_format.MessageToDict(json_format.ParseDict(values, struct_pb2.Struct()))
    return carried


@pytest.mark.parametrize(("model", "usd"), [("gpt-4.1-mini", 2.0), ("org/some-model.v2", 4.0), ("other", 0.0)])
def test_a_models_own_price_counts(model: str, usd: float) -> None:
    options = parse_options(TeacherOptions, through_kubeflow({"model": model, "prices": TABLE}), "teacher")
    options.check("teacher")
    assert options.prices["org/some-model.v2"] == Price(prompt=1, completion=3)
    assert options.usd(1e6, 1e6) == pytest.approx(usd)


@pytest.mark.parametrize("limit", ["max_usd", "max_usd_per_day"])
@pytest.mark.parametrize("section", ["teacher", "judge_teacher"])
def test_a_limit_in_dollars_needs_the_models_price(limit: str, section: str, tmp_path: Path) -> None:
    """Refused when the profile is read, before anything is done; what the message says to write is accepted."""
    head = "seeds: {sources: [{adapter: builtin, count: 4}]}\nbenchmarks: {sources: [{adapter: builtin, split: test, count: 4}]}\n"
    profile = tmp_path / "profile.yaml"
    lines = [f"{section}:", "  model: org/some-model.v2", "  base_url: http://x/v1", f"  {limit}: 5"]
    profile.write_text(head + "\n".join(lines))
    with pytest.raises(ParameterError) as caught:
        parameters.load(str(profile))
    error = caught.value
    assert error.name == f"{section}.{limit}" and "'org/some-model.v2'" in str(error)
    written = str(error).split("`")[1]
    profile.write_text(head + "\n".join([*lines, f"  {written}"]))
    parameters.load(str(profile))
    profile.write_text(head + "\n".join([*lines, f"  {written.replace('some-model.v2', 'another')}"]))
    with pytest.raises(ParameterError, match="it has those of org/another"):
        parameters.load(str(profile))


def test_one_table_serves_both_teachers() -> None:
    settings = ["teacher.prices={a: {prompt: 1, completion: 2}, b.c/d: {prompt: 3, completion: 4}}"]
    settings += ["judge_teacher.base_url=http://x/v1", "judge_teacher.model=b.c/d", "judge_teacher.max_usd=1"]
    run = parameters.load("tiny", settings)
    assert run.section(TeacherOptions, "judge_teacher").usd(1e6, 1e6) == 7


@pytest.mark.parametrize(
    "prices",
    [{"m": {"prompt": 1}}, {"m": {"prompt": -1, "completion": 1}}, {"m": 3}, {"m": {"prompt": 1, "completion": 1, "cached": 1}}],
    ids=["half", "negative", "one number", "unknown name"],
)
def test_a_price_is_whole_or_refused(prices: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=r"teacher\.prices"):
        parse_options(TeacherOptions, {"prices": prices}, "teacher")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:hush-hush@host/v1", "hush"),
        ("https://host/v1?key=hush-hush", "hush"),
        ("https://host/v1?a=1&token=hush-hush#x", "hush"),
        ("https://host/v1#hush-hush", "hush"),
    ],
)
def test_an_address_with_a_key_in_it_is_refused_unseen(url: str, shown: str) -> None:
    with pytest.raises(ParameterError) as caught:
        TeacherOptions(base_url=url).check("judge_teacher")
    assert caught.value.name == "judge_teacher.base_url" and shown not in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        (b'{"text": "a sk-pl/\\"1\\" b"}', b'{"text":"a [redacted] b"}'),
        (b'{"text": "a sk-pl\\/\\"1\\" b", "n": 1.50}', b'{"text":"a [redacted] b","n":1.5}'),
        (b'{"text": "\\u0073k-pl/\\u00221\\""}', b'{"text":"[redacted]"}'),
        (b'{"sk-other": ["x", {"y": "-sk-other-"}]}', b'{"[redacted]":["x",{"y":"-[redacted]-"}]}'),
        (b"<html>sk-other</html>", b"<html>[redacted]</html>"),
        (b'{ "text":  "a \\n line and no key" }', b'{ "text":  "a \\n line and no key" }'),
        (b'{ "token":  12 }', b'{ "token":  12 }'),
    ],
)
def test_a_reply_is_kept_without_secrets_and_else_byte_for_byte(raw: bytes, clean: bytes) -> None:
    assert redact_json(raw, ['sk-pl/"1"', "sk-other"]) == clean
    assert redact_json(raw, []) == raw
