"""Profiles, overrides and their errors."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from components.core.errors import InputError, ParameterError
from pipelines.methods import METHODS
from pipelines.parameters import profile as parameters
from pipelines.parameters.options_page import PAGE, page
from pipelines.parameters.required_files import needs_data_folder

SMOKE = str(Path(__file__).parents[2] / "local" / "smoke.yaml")


@pytest.mark.parametrize("name", parameters.profile_names())
def test_every_profile_that_comes_with_tutorloop_is_valid(name: str) -> None:
    options = parameters.load(name)
    assert options.profile.description
    assert set(options.sections) == set(options.method.sections)


@pytest.mark.parametrize(
    ("override", "section", "name", "value"),
    [
        ("sft.learning_rate=1e-5", "sft", "learning_rate", 1e-5),
        ("sft.learning_rate=2.5E-4", "sft", "learning_rate", 2.5e-4),
        ("preference_tuning.method=kto", "preference_tuning", "method", "kto"),
        ("preference_tuning.learning_rates=[1e-3, 5e-4]", "preference_tuning", "learning_rates", [1e-3, 5e-4]),
        ("student.tiny.hidden=64", "student", "tiny", {"rows": 400, "hidden": 64}),
    ],
)
def test_overrides(override: str, section: str, name: str, value: object) -> None:
    got = msgspec.to_builtins(parameters.load(SMOKE, [override]).sections[section])[name]
    assert got == value or (isinstance(got, dict) and isinstance(value, dict) and got.items() >= value.items())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sft.learning_rat=1", r"sft\.learning_rat = 1 .*learning_rate"),
        ("sft.learning_rate=-1", r"sft\.learning_rate = -1 .*> 0"),
        ("stf.learning_rate=1", r"parameter stf = .*sft"),
        ("preference_tuning.method=ppo", r"preference_tuning\.method = 'ppo'"),
        ("rounds=0", r"rounds = 0"),
        ("seed=abc", r"seed = 'abc'"),
        ("sft.learning_rate", r"--set .*name=value"),
        ("seed.x=1", r"seed\.x"),
        ("offline_teacher.faults.http_500_rate=2", r"offline_teacher\.faults\.http_500_rate = "),
    ],
)
def test_wrong_overrides_name_the_parameter_its_value_and_what_is_allowed(override: str, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        parameters.load(SMOKE, ["seed=1", override])


def test_an_unknown_profile_lists_the_known_ones() -> None:
    with pytest.raises(ParameterError, match="tiny"):
        parameters.load("tinny")


def test_a_missing_file_and_broken_yaml_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.yaml"):
        parameters.load(str(tmp_path / "nothing.yaml"))
    (tmp_path / "broken.yaml").write_text("a: 1\nb: [1,\nc: {")
    with pytest.raises(InputError, match="line [34]"):
        parameters.load(str(tmp_path / "broken.yaml"))
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(InputError, match="not a mapping"):
        parameters.load(str(tmp_path / "list.yaml"))


def test_the_judge_is_the_teacher_unless_it_has_a_section() -> None:
    options = parameters.load(SMOKE)
    assert options.sections["judge_teacher"] == options.sections["teacher"]
    other = parameters.load(SMOKE, ["judge_teacher.base_url=https://judge.example/v1", "judge_teacher.model=j"])
    assert other.sections["judge_teacher"].model == "j" and other.sections["teacher"].model == "offline-teacher"


def test_shards_become_index_and_count() -> None:
    arguments = parameters.pipeline_arguments(parameters.load(SMOKE), stores={}, pipeline_digest="d")
    assert arguments["data_shards"] == ["0/2", "1/2"]


def test_data_folder_is_asked_for_only_when_a_source_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TUTORLOOP_DATA", raising=False)
    assert needs_data_folder(parameters.load("gsm8k_small"))
    assert not needs_data_folder(parameters.load(SMOKE))
    assert needs_data_folder(parameters.load(SMOKE, ["judging.golden=['{data}/golden.jsonl']"]))
    monkeypatch.setenv("TUTORLOOP_DATA", "somewhere")
    assert not needs_data_folder(parameters.load("gsm8k_small"))


def test_what_a_run_changes_is_told_by_its_dotted_name() -> None:
    run = parameters.load("tiny", ["seed=3", "sft.learning_rate=1e-2", "sampling.n=4"])
    before = parameters.load("tiny").sections
    found = parameters.changed(run, "tiny")
    assert found["seed"] == 3 and found["sft.learning_rate"] == 1e-2
    assert ("sampling.n" in found) == (before["sampling"].n != 4)
    assert parameters.changed(parameters.load("tiny"), "tiny") == {}
    assert parameters.changed(run, "somewhere/mine.yaml") == {}, "a file may be on another machine"


def test_the_page_of_options_is_that_of_the_classes() -> None:
    text = PAGE.read_text()
    assert text == page(), "run `make compile` and commit the result"
    for name, kind in METHODS["orca_math"].sections.items():
        assert f"\n## {name}\n" in text
        assert all(f"| `{field.name}` |" in text for field in msgspec.structs.fields(kind))
    unexplained = [line for line in text.splitlines() if line.startswith("| `") and line.endswith("|  |")]
    assert not unexplained, "each option says what it means in its class's docstring"
