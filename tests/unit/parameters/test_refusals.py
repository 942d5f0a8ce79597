"""What is wrong is refused when a profile is read: with the parameter's name as a person writes it, by the same rules as in the run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from components.core.errors import InputError, ParameterError
from components.core.options import Options, parse_options
from components.solving.options import SolvingOptions
from components.word_problems.families import FAMILIES
from components.word_problems.names import FAMILY_NAMES
from pipelines.control import preflight
from pipelines.local import runner
from pipelines.methods import METHODS
from pipelines.parameters import profile as parameters
from pipelines.parameters.required_files import require_files
from pipelines.parameters.yaml_loader import YamlLoader
from tests.unit.control.test_control import given

SMOKE = str(Path(__file__).parents[2] / "local" / "smoke.yaml")

WRONG: list[tuple[list[str], str, str]] = [
    # Preference tuning
    (["preference_tuning.loss_weights=[1.0]"], "preference_tuning.loss_weights", "2 numbers"),
    (["preference_tuning.losses=[sigmoid]"], "preference_tuning.loss_weights", "1 numbers"),
    (["preference_tuning.sft_weight=0.5"], "preference_tuning.sft_weight", "add sft to losses"),
    (["preference_tuning.processes=3"], "preference_tuning.batch_size", "3 processes can share"),
    (
        ["preference_tuning.processes=8", "preference_tuning.method=kto"],
        "preference_tuning.batch_size",
        "at least 2 rows per process",
    ),
    (["sft.nodes=3"], "sft.batch_size", "24 processes can share"),
    (["sft.lora_rank=4", "sft.lora_targets='q_proj('"], "sft.lora_targets", "regular expression"),
    (["sft.lora_rank=4", "sft.lora_targets=''"], "sft.lora_targets", "all-linear"),
    (["preferences={teacher_positives: false, student_positives: false}"], "preferences.student_positives", "at least one"),
    # The base model
    (["student.chat_format=template"], "student.chat_format", "no chat template"),
    (["student.tiny.families=[nonsense]"], "student.tiny.families", "gain"),
    (["student.tiny.hidden=30"], "student.tiny.hidden", "a multiple of 4"),
    (["student.tiny.rows=100000000"], "student.tiny.rows", "<= 1000000"),
    (["student.base_model=''"], "student.base_model", "a hub id"),
    (["student.base_model='gguf:'"], "student.base_model", "gguf:<file>"),
    (["student.base_model=package:transformers"], "student.base_model", "package:<package>/<file>"),
    (["student.base_model=https://host/model"], "student.base_model", "download"),
    (["student.base_model=s3://me:hush@bucket/model"], "student.base_model", "without credentials"),
    # Sources
    (["seeds.sources=[{adapter: builtin}]"], "seeds.sources[0].count", "1 or more"),
    (["seeds.sources[0].count=0"], "seeds.sources[0].count", "1 or more"),
    (["seeds.sources[0].count=100000000000"], "seeds.sources[0].count", "<= 1000000"),
    (["seeds.sources[0].split=test"], "seeds.sources[0].split", "never used as seeds"),
    (["seeds.sources[0].families=[nonsense]"], "seeds.sources[0].families", "gain"),
    (["seeds.sources[0].uri=x.jsonl"], "seeds.sources[0].uri", "makes its own problems"),
    (["seeds.sources=[{adapter: gsm8k, uri: x/test.jsonl}]"], "seeds.sources[0].uri", "holds test problems"),
    (["seeds.sources=[{adapter: svamp, uri: x.json}]"], "seeds.sources[0].split", "only when you say so"),
    (["seeds.sources=[{adapter: gsm8k}]"], "seeds.sources[0].uri", "hub:"),
    (["seeds.sources=[{adapter: gsm8k, uri: 'https://host/x?sig=hush'}]"], "seeds.sources[0].uri", "download"),
    (["seeds.sources=[{adapter: gsm8k, uri: 's3://me:hush@bucket/x'}]"], "seeds.sources[0].uri", "without credentials"),
    (["seeds.sources=[{adapter: gsm8k, uri: 's3://b/x?X-Amz-Signature=hush'}]"], "seeds.sources[0].uri", "without credentials"),
    (["seeds.sources=[{adapter: gsm8k, uri: x, count: 3}]"], "seeds.sources[0].count", "use limit"),
    (["seeds.sources=[{adapter: gsm8k, uri: x, fields: {question: q}}]"], "seeds.sources[0].fields", "jsonl"),
    (["seeds.sources=[{adapter: jsonl, uri: x, fields: {text: q}}]"], "seeds.sources[0].fields", "question"),
    (["seeds.sources=[{adapter: jsonl, uri: x, revision: main}]"], "seeds.sources[0].revision", "hub:"),
    (["seeds.sources=[{adapter: nope}]"], "seeds.sources[0].adapter", "nope"),
    (["seeds.sources=[]"], "seeds.sources", "length >= 1"),
    (["benchmarks.sources[1].name=held-out"], "benchmarks.sources[1].name", "no other benchmark"),
    (["benchmarks.sources[1].split=train"], "benchmarks.sources[1].split", "dev or test"),
    (["benchmarks.sources=[{adapter: gsm8k, uri: x, dev_share: 0.1, split: test}]"], "benchmarks.sources[0].dev_share", "0, unless"),
    (["answer_key=[{adapter: builtin}]"], "answer_key[0].count", "1 or more"),
    (["answer_key=[{adapter: builtin, count: 3, split: test}]"], "answer_key[0].split", "never used as seeds"),
    # Judge and teacher
    (["judging.golden=['']"], "judging.golden[0]", "s3://bucket/key"),
    (["judging.golden=['https://host/x']"], "judging.golden[0]", "s3://bucket/key"),
    (["judging.golden=['s3://me:hush@b/x']"], "judging.golden[0]", "without credentials"),
    (["teacher.base_url=ftp://x"], "teacher.base_url", "https://host/v1"),
    (["teacher.base_url='https://x/v1#hush'"], "teacher.base_url", "fragment"),
    (["judge_teacher={base_url: 'http://x/v1', max_usd: 2}"], "judge_teacher.max_usd", "has a price"),
    (["teacher.prices={a.b: {prompt: -1, completion: 1}}"], "teacher.prices", ">= 0"),
    (["teacher.api_key=sk-hush"], "teacher.api_key", "base_url"),
    (["teacher.apikey=sk-hush"], "teacher.apikey", "base_url"),
    (["api_key=sk-hush"], "api_key", "teacher"),
    (["teacher={secret: {x: sk-hush}}"], "teacher.secret", "base_url"),
    (["student.tiny={api_key: sk-hush}"], "student.tiny", "unknown field `api_key`"),
    # Numbers
    (["seed=-1"], "seed", ">= 0"),
    (["seed=4294967296"], "seed", "<= 4294967295"),
    (["seeds.sources[0].seed=4294967296"], "seeds.sources[0].seed", "<= 4294967295"),
    (["offline_teacher.seed=-1"], "offline_teacher.seed", ">= 0"),
    (["sft.learning_rate=.inf"], "sft.learning_rate", "finite"),
    (["sft.learning_rate=.nan"], "sft.learning_rate", ""),
    (["sampling.temperature=.inf"], "sampling.temperature", "finite"),
    (["preference_tuning.learning_rates=[1e-3, .inf]"], "preference_tuning.learning_rates[1]", "finite"),
    (["preference_tuning.loss_weights=[1.0, .nan]"], "preference_tuning.loss_weights[1]", "finite"),
    (["teacher.prices={a.b: {prompt: .inf, completion: 1}}"], "teacher.prices", "finite"),
    (["offline_teacher.faults.latency_s=.inf"], "offline_teacher.faults.latency_s", "finite"),
    (["sft.epochs=.inf"], "sft.epochs", ""),
    (["sft.epochs=99999999999999999999"], "sft.epochs", "<= 1000"),
    (["sft.batch_size=99999999999999999999"], "sft.batch_size", ""),
    (["preference_tuning.epochs=1001"], "preference_tuning.epochs", "<= 1000"),
    (["rounds=0"], "rounds", ">= 1"),
    (["rounds=2000"], "rounds", "<= 100"),
    (["data_shards=100000000"], "data_shards", "<= 1000"),
    (["sampling_shards=0"], "sampling_shards", ">= 1"),
    # Form
    (["sft=5"], "sft", "options by name"),
    (["sft=0"], "sft", "options by name"),
    (["sft=[]"], "sft", "options by name"),
    (["sft=''"], "sft", "options by name"),
    (["sft=abc"], "sft", "options by name"),
    (["solving=[n, 2]"], "solving", "options by name"),
    (["judge_teacher=false"], "judge_teacher", "options by name"),
    (["cluster=5"], "cluster", "options by name"),
    (["offline_teacher=5"], "offline_teacher", "options by name"),
    (["student.tiny=5"], "student.tiny", ""),
    (["answer_key=5"], "answer_key", ""),
    (["answer_key=[5]"], "answer_key[0]", ""),
    (["cluster.pods.data.gpus=1"], "cluster.pods.data.gpus", "only training"),
    (["solving.majority_vote=yes"], "solving.majority_vote", "true or false"),
    (["sft.epochs=&a [*a]"], "sft.epochs", "no part of itself"),
    (["sft.cluster=&a {tolerations: [*a]}"], "sft.cluster", "no part of itself"),
    (["nonsense=&a [*a]"], "nonsense", "no part of itself"),
    (["teacher.model=[1"], "teacher.model", "YAML"),
    (['teacher.model="abc'], "teacher.model", "YAML"),
    (["teacher.model={a: 1, a: 2}"], "teacher.model", "stands twice"),
    (["seeds.sources[7].count=3"], "seeds.sources[7].count", "a list of 1"),
    (["seeds.sources.count=3"], "seeds.sources.count", "an element of the list"),
    (["teacher[0].model=m"], "teacher[0].model", "no list"),
]
ABSENT = {"nonsense", "api_key", "seeds.sources[7].count", "seeds.sources.count", "teacher[0].model"} | {
    f"teacher.{name}" for name in ("api_key", "apikey", "secret")
}
"""What the person named, and there is not."""


@pytest.mark.parametrize(("overrides", "name", "allowed"), WRONG, ids=[" ".join(overrides) for overrides, _, _ in WRONG])
def test_what_is_wrong_is_refused_when_it_is_read(overrides: list[str], name: str, allowed: str) -> None:
    with pytest.raises(ParameterError) as caught:
        parameters.load(SMOKE, overrides)
    assert caught.value.name == name
    assert allowed in caught.value.allowed
    assert "hush" not in str(caught.value)
    if name not in ABSENT:
        settable(name, overrides)


def settable(name: str, overrides: list[str]) -> None:
    """Require that ``--set`` takes a name: whatever it then says of the value, it does not say that there is no such parameter."""
    base = parameters.assignments([*(overrides if "[" in name else []), f"{name}=null"], parameters._read(SMOKE))
    try:
        parameters.check(base)
    except ParameterError as error:
        assert "one of the names" not in error.allowed and not error.allowed.startswith("one of answer_key"), f"{name}: {error}"


SECTIONED = [case for case in WRONG if case[1].split(".")[0].split("[")[0] in METHODS["orca_math"].sections and case[1] not in ABSENT]


@pytest.mark.parametrize(("overrides", "name", "allowed"), SECTIONED, ids=[" ".join(case[0]) for case in SECTIONED])
def test_the_preflight_and_the_stages_refuse_the_same(overrides: list[str], name: str, allowed: str, tmp_path: Path) -> None:
    """The form in Kubeflow starts runs that no profile was read for, and a stage trusts nobody."""
    section = name.split(".")[0]
    try:
        values = parameters.assignments(overrides, parameters._read(SMOKE))
    except ParameterError:
        return
    with pytest.raises(ParameterError) as at_load:
        parameters.check(values)
    arrived = given(tmp_path) | {name: values[name] for name in METHODS["orca_math"].sections if name in values}
    with pytest.raises(ParameterError) as in_preflight:
        preflight.check_parameters(arrived)
    with pytest.raises(ParameterError) as in_stage:
        parse_options(METHODS["orca_math"].sections[section], values[section], section)
    assert str(at_load.value) == str(in_preflight.value) == str(in_stage.value)


def test_load_and_preflight_share_one_function(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[str] = []

    def note(kind: type[Options], values: object, section: str) -> Options:
        seen.append(section)
        return parse_options(kind, values, section)

    monkeypatch.setattr(parameters, "parse_options", note)
    parameters.load(SMOKE)
    at_load, seen[:] = set(seen), []
    preflight.check_parameters(given(tmp_path))
    assert set(seen) == at_load >= set(METHODS["orca_math"].sections)


def test_names_of_families_are_those_of_the_generator() -> None:
    assert list(FAMILY_NAMES) == list(FAMILIES)


# Values that people type


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("@cf/meta/x", "@cf/meta/x"),
        ("`x`", "`x`"),
        ("%x", "%x"),
        ("*x", "*x"),
        ("on", "on"),
        ("Off", "Off"),
        ("yes", "yes"),
        ("no", "no"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("a: b: c", "a: b: c"),
    ],
)
def test_what_is_no_yaml_is_the_text_that_it_is(text: str, value: str) -> None:
    assert parameters.load(SMOKE, [f"teacher.model={text}"]).sections["teacher"].model == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("012", 12),
        ("0x10", 16),
        ("0o17", 15),
        ("1_000", 1000),
        ("-3", -3),
        ("1e-6", 1e-6),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("+1.5", 1.5),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("1e", "1e"),
        ("[yes, 1, 010]", ["yes", 1, 10]),
        ("'12'", "12"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = parameters.assignments([f"a={text}"])["a"]
    assert found == value and type(found) is type(value)


def test_switches_need_no_quotes() -> None:
    options = parameters.load(SMOKE, ["sft.bf16=off", "contamination={exact: remove, masked: off, jaccard: report}"])
    assert (options.sections["sft"].bf16, options.sections["contamination"].masked) == ("off", "off")


def test_a_section_that_stands_twice_is_refused_with_its_line(tmp_path: Path) -> None:
    profile = tmp_path / "twice.yaml"
    text = Path(SMOKE).read_text()
    profile.write_text(text + "sft: {epochs: 2}\n")
    with pytest.raises(InputError, match=rf"'sft' stands twice(.|\n)*line {text.count(chr(10)) + 1}"):
        parameters.load(str(profile))
    profile.write_text(text.replace("sampling: {n: 2,", "sampling: {n: 2, n: 3,"))
    with pytest.raises(InputError, match="'n' stands twice"):
        parameters.load(str(profile))


def test_a_merge_may_be_overridden() -> None:
    text = "a: &a {<<: {x: 1, y: 2}, x: 3}\nb: {<<: *a, y: 4}\nc: [*a, *a]"
    whole = {"x": 3, "y": 2}
    assert yaml.load(text, Loader=YamlLoader) == {"a": whole, "b": {"x": 3, "y": 4}, "c": [whole, whole]}


@pytest.mark.parametrize("text", ["sft: 0", "sft: []", "sft: ''", "solving: 5", "sft: abc"])
def test_a_section_in_a_file_that_is_no_mapping(text: str, tmp_path: Path) -> None:
    profile = tmp_path / "p.yaml"
    lines = [line for line in Path(SMOKE).read_text().splitlines() if not line.startswith(text.split(":")[0] + ":")]
    profile.write_text("\n".join([*lines, text]))
    with pytest.raises(ParameterError, match="options by name"):
        parameters.load(str(profile))


def test_an_empty_section_has_its_defaults(tmp_path: Path) -> None:
    profile = tmp_path / "p.yaml"
    profile.write_text(Path(SMOKE).read_text() + "solving:\n")
    assert parameters.load(str(profile)).sections["solving"] == SolvingOptions()
    assert parameters.load(str(profile), ["solving.n=2"]).sections["solving"] == SolvingOptions(n=2)


def test_an_element_of_a_list_can_be_set() -> None:
    options = parameters.load(SMOKE, ["benchmarks.sources[1].count=7", "preference_tuning.loss_weights[0]=0.2"])
    assert [source.count for source in options.sections["benchmarks"].sources] == [24, 7]
    assert options.sections["preference_tuning"].loss_weights == [0.2, 1]


# Files


def test_files_that_are_not_there_are_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "train.jsonl").write_text("{}")
    (tmp_path / "good.jsonl").write_text("{}")
    cases = [
        ([f"seeds.sources=[{{adapter: gsm8k, uri: {tmp_path}/none.jsonl}}]"], "seeds.sources[0].uri", "no such file"),
        ([f"seeds.sources=[{{adapter: gsm8k, uri: {tmp_path}/empty.jsonl}}]"], "seeds.sources[0].uri", "not empty"),
        ([f"seeds.sources=[{{adapter: gsm8k, uri: {tmp_path}/folder, split: dev}}]"], "seeds.sources[0].uri", "split 'dev'"),
        ([f"benchmarks.sources[0]={{adapter: gsm8k, uri: file://{tmp_path}/none}}"], "benchmarks.sources[0].uri", "no such file"),
        ([f"judging.golden=[{tmp_path}/none.jsonl]"], "judging.golden[0]", "no such file"),
        ([f"judging.golden=[{tmp_path}/good.jsonl, {tmp_path}/folder]"], "judging.golden[1]", "no folder"),
        ([f"answer_key=[{{adapter: gsm8k, uri: {tmp_path}/none}}]"], "answer_key[0].uri", "no such file"),
        ([f"offline_teacher.answer_key=[{tmp_path}/none]"], "offline_teacher.answer_key[0]", "no such file"),
        ([f"student.base_model=gguf:{tmp_path}/none"], "student.base_model", "no such file"),
    ]
    for overrides, name, allowed in cases:
        # Whoever compiles for another machine does not have its files.
        options = parameters.load(SMOKE, overrides)
        with pytest.raises(ParameterError) as caught:
            runner.run_profile("smoke", options, tmp_path / "home")
        assert caught.value.name == name and allowed in caught.value.allowed, overrides
        assert not (tmp_path / "home").exists()
        settable(name, overrides)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret.jsonl"
    path.write_text("{}")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("root reads everything")
    with pytest.raises(ParameterError, match="can be read"):
        require_files(parameters.load(SMOKE, [f"judging.golden=[{path}]"]), "smoke")


def test_files_that_are_there_or_elsewhere_are_none_of_its_business(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("{}")
    for overrides in (
        [],
        [f"seeds.sources=[{{adapter: gsm8k, uri: {tmp_path}}}]"],
        [f"seeds.sources=[{{adapter: gsm8k, uri: {tmp_path}/train.jsonl}}]"],
        ["seeds.sources=[{adapter: gsm8k, uri: s3://bucket/x}]"],
        ["seeds.sources=[{adapter: gsm8k, uri: hub:openai/gsm8k, config: main}]"],
        ["judging.golden=[s3://bucket/x]"],
        ["teacher.base_url=http://x/v1", "answer_key=[{adapter: gsm8k, uri: /nowhere}]"],
    ):
        require_files(parameters.load(SMOKE, overrides), "smoke")


@pytest.mark.parametrize("home", ["", " ", "http://x/y", "gs://bucket/x", "https://me:hush@x/y"])
def test_a_home_that_is_no_place_is_refused(home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError, match="--home") as caught:
        runner.run_profile("smoke", parameters.load(SMOKE), home)
    assert "hush" not in str(caught.value) and not list(tmp_path.iterdir())


# Before the work


@pytest.mark.parametrize(
    ("overrides", "warned"),
    [
        ([], False),
        (["benchmarks.sources[1].split=test"], True),
        (["benchmarks.sources=[{adapter: gsm8k, uri: x, dev_share: 0.1, split: train}]"], False),
        (["benchmarks.sources=[{adapter: gsm8k, uri: x/dev.jsonl}]"], False),
        (["benchmarks.sources=[{adapter: svamp, uri: x}]"], True),
    ],
)
def test_a_run_that_can_promote_nothing_says_so(overrides: list[str], warned: bool) -> None:
    found = parameters.warnings(parameters.load(SMOKE, overrides))
    assert bool(found) == warned
    assert all("nothing can be promoted" in text for text in found)


SILENT = ["synthesis={ask_me_anything: false, suggester_editor: false}", "solving.use_gold_solutions=true"]


@pytest.mark.parametrize(
    ("overrides", "asked"),
    [
        ([], ["teacher", "judge_teacher"]),
        (["judging.judge=rule_only"], ["teacher"]),
        (["judging.judge=rule_only", "judging.measure_teacher=true"], ["teacher", "judge_teacher"]),
        (SILENT, ["judge_teacher"]),
        ([*SILENT, "judging.judge=rule_only"], []),
        ([*SILENT, "judging.judge=rule_only", "seeds.sources=[{adapter: aqua, uri: x}]"], ["teacher"]),
        ([*SILENT[:1], "judging.judge=rule_only"], ["teacher"]),
    ],
)
def test_a_teacher_is_looked_for_where_the_run_may_ask_it(overrides: list[str], asked: list[str]) -> None:
    options = parameters.load(SMOKE, overrides)
    assert options.method.asked(options.sections) == asked
    assert parameters.uses_offline_teacher(options) == bool(asked)


def test_a_run_without_its_data_folder_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TUTORLOOP_DATA", raising=False)
    with pytest.raises(InputError, match="no data folder is set"):
        runner.run_profile("gsm8k_small", parameters.load("gsm8k_small"), tmp_path / "home")
    assert not (tmp_path / "home").exists()
