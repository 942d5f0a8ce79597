"""A profile is one file with one complete set of parameters: read, overridden and checked here before any work starts."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import yaml

from components.contamination.options import ContaminationOptions
from components.core import data_folder
from components.core.errors import InputError, ParameterError
from components.core.options import Options, RandomSeed, parse_options, plain, shown
from components.core.store import MissingKeyError, fetched, is_remote
from components.evaluation.options import EvaluationOptions
from components.judging.options import JudgingOptions
from components.offline_teacher.options import OfflineTeacherOptions
from components.preference_tuning.options import TuningOptions
from components.preferences.options import PreferenceOptions
from components.promotion.options import PromotionOptions
from components.sampling.options import SamplingOptions
from components.seeds.options import SeedsOptions, SourceOptions
from components.seeds.splits import SUFFIXES, files_of_split
from components.sft.options import SFTOptions
from components.solving.options import SolvingOptions
from components.student.options import StudentOptions
from components.synthesis.options import SynthesisOptions
from components.teacher.options import OFFLINE, TeacherOptions
from pipelines.cluster import parse_cluster
from pipelines.yaml_loader import YamlLoader

PROFILES = Path(__file__).resolve().parent / "profiles"

SECTIONS: dict[str, type[Options]] = {
    "seeds": SeedsOptions,
    "benchmarks": SeedsOptions,
    "teacher": TeacherOptions,
    "judge_teacher": TeacherOptions,
    "synthesis": SynthesisOptions,
    "solving": SolvingOptions,
    "contamination": ContaminationOptions,
    "student": StudentOptions,
    "sft": SFTOptions,
    "sampling": SamplingOptions,
    "judging": JudgingOptions,
    "preferences": PreferenceOptions,
    "preference_tuning": TuningOptions,
    "evaluation": EvaluationOptions,
    "promotion": PromotionOptions,
}
"""Section of a profile to the options class that checks it; each becomes one pipeline parameter."""


MOST_ROUNDS = 100
"""Each round is written out in the compiled pipeline: a hundred take a minute to compile."""
MOST_SHARDS = 1_000
"""Each shard is a task with a process or pod of its own, several times in a run."""
ALWAYS_SOLVED = frozenset({"builtin", "gsm8k"})
"""Sets in which every problem has a worked solution."""
INDEX = re.compile(r"\[(\d+)\]")


class RunOptions(Options, frozen=True, kw_only=True):
    """The top level of a profile: what is not an option of one stage.

    Attributes:
        description: For people.
        rounds: Practice rounds; the paper's 2 make M3.
        seed: Seed of everything random.
        data_shards: Tasks that share synthesis and solving (our choice).
        sampling_shards: Tasks that share sampling and judging (our choice).
        offline_teacher: Options of the offline teacher that is started when a teacher's ``base_url`` is ``offline``.
        answer_key: Sources (as in ``seeds.sources``) whose worked solutions the offline teacher may give.
        cluster: How tasks run on a cluster (``pipelines.cluster``); fixed when the pipeline is compiled.
        sections: The options of the stages.
    """

    description: str = ""
    rounds: Annotated[int, msgspec.Meta(ge=1, le=MOST_ROUNDS)] = 2
    seed: RandomSeed = 0
    data_shards: Annotated[int, msgspec.Meta(ge=1, le=MOST_SHARDS)] = 1
    sampling_shards: Annotated[int, msgspec.Meta(ge=1, le=MOST_SHARDS)] = 1
    offline_teacher: dict[str, Any] = {}
    answer_key: list[dict[str, Any]] = []
    cluster: dict[str, Any] = {}
    sections: dict[str, dict[str, Any]] = {}


def profile_names() -> list[str]:
    """Names of the profiles that come with TutorLoop."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def load(profile: str, overrides: Sequence[str] = ()) -> RunOptions:
    """Read a profile, apply overrides and check everything.

    Args:
        profile: Name of a profile that comes with TutorLoop, or a YAML file: its path, or ``s3://bucket/key``.
        overrides: ``name=value`` pairs with dotted names (``sft.learning_rate=1e-5``, ``seed=1``); values are YAML.

    Raises:
        InputError: The file is missing or not YAML.
        ParameterError: A name or value is wrong.
        StoreError: The store that holds the file cannot be reached.
    """
    return check(assignments(overrides, _read(profile)))


def assignments(overrides: Sequence[str], values: dict[str, Any] | None = None) -> dict[str, Any]:
    """Put ``name=value`` pairs with dotted names into a mapping; values are YAML.

    Raises:
        ParameterError: Not of that form.
    """
    values = {} if values is None else values
    for override in overrides:
        name, separator, text = override.partition("=")
        if not separator:
            raise ParameterError("--set", override, "name=value, for example sft.learning_rate=1e-5")
        _assign(values, name.strip(), _value(name.strip(), text))
    return values


def _value(name: str, text: str) -> Any:
    """The value that a person typed: YAML, or the text itself where it is none (``@cf/org/model``)."""
    try:
        return yaml.load(text, Loader=YamlLoader)
    except yaml.YAMLError as error:
        # Who begins a list, a mapping, a quoted text or a tag means YAML.
        if text.lstrip().startswith(tuple("[{\"'!")):
            problem = getattr(error, "problem", None) or "not YAML"
            raise ParameterError(name, shown(name, text, known=False), f"YAML, for example [1, 2] or {{a: 1}} ({problem})") from error
        return text.strip()


def _read(profile: str) -> dict[str, Any]:
    uri = profile
    if not profile.endswith((".yaml", ".yml")):
        if profile not in profile_names():
            raise ParameterError(
                "--profile", profile, "one of " + ", ".join(profile_names()) + ", or a YAML file (path or s3://bucket/key)"
            )
        uri = str(PROFILES / f"{profile}.yaml")
    try:
        with fetched(uri) as path:
            values = yaml.load(path.read_bytes(), Loader=YamlLoader)
    except (MissingKeyError, IsADirectoryError) as error:
        raise InputError("no such profile", uri, hint="give the path, or s3://bucket/key, of an existing YAML file") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise InputError(f"not YAML: {error}", uri, mark.line + 1 if mark else 0, "correct the file") from error
    if not isinstance(values, dict):
        raise InputError("not a mapping of parameters", uri, hint="start from a copy of a profile that comes with TutorLoop")
    return values


def _assign(values: dict[str, Any], name: str, value: Any) -> None:
    """Put a value at a dotted name, in which ``[0]`` is an element of a list that is there (``seeds.sources[0].count``)."""
    place: Any = values
    *path, last = [part for word in name.split(".") for part in re.split(r"(?=\[\d+\]$)", word, maxsplit=1)]
    for part in path:
        place = _below(place, part, name, value)
        if not isinstance(place, dict | list):
            raise ParameterError(name, shown(name, value, known=False), f"{part} holds a single value, it has no names below it")
    if INDEX.fullmatch(last):
        _below(place, last, name, value)
        place[int(last[1:-1])] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise ParameterError(name, shown(name, value, known=False), "an element of the list by its number, for example [0]")


def _below(place: Any, part: str, name: str, value: Any) -> Any:
    """What a mapping or list holds under a part of a dotted name."""
    index = INDEX.fullmatch(part)
    if index and isinstance(place, list) and int(index[1]) < len(place):
        return place[int(index[1])]
    if not index and isinstance(place, dict):
        if place.get(part) is None:
            place[part] = {}
        return place[part]
    length = f"a list of {len(place)}" if isinstance(place, list) else "no list"
    raise ParameterError(name, shown(name, value, known=False), f"elements that are there: what stands before {part} is {length}")


def check(values: Mapping[str, Any]) -> RunOptions:
    """Check a whole set of parameters.

    Returns:
        The options, with every section present and its defaults left to the stage.

    Raises:
        ParameterError: A name or value is wrong; says where and what is allowed.
    """
    own = {name: plain(value, str(name)) for name, value in values.items() if name not in SECTIONS}
    names = {field.name for field in msgspec.structs.fields(RunOptions)} - {"sections"}
    for name in own:
        if name not in names:
            allowed = "one of " + ", ".join(sorted(names | set(SECTIONS)))
            raise ParameterError(str(name), shown(str(name), own[name], known=False), allowed)
    # A section with nothing below its name is YAML's null.
    sections = {name: {} if values.get(name) is None else values[name] for name in SECTIONS}
    for name, section in sections.items():
        if not isinstance(section, Mapping):
            parse_options(SECTIONS[name], section, name)
        sections[name] = dict(section)
    if not sections["judge_teacher"]:
        sections["judge_teacher"] = dict(sections["teacher"])
    elif "prices" in sections["teacher"]:
        # One table may hold the prices of both models.
        sections["judge_teacher"].setdefault("prices", sections["teacher"]["prices"])
    for name, kind in SECTIONS.items():
        parse_options(kind, sections[name], name)
    parse_options(OfflineTeacherOptions, own.get("offline_teacher", {}), "offline_teacher")
    parse_cluster(own.get("cluster", {}))
    run = parse_options(RunOptions, {**own, "sections": sections}, "")
    for index, source in enumerate(run.answer_key):
        name = f"answer_key[{index}]"
        parse_options(SourceOptions, source, name).check_role(name, seeds=True)
    return run


def needs_data_folder(run: RunOptions) -> bool:
    """Whether a file of the profile lies in ``{data}`` while the folder is not set."""
    sources = [*run.sections["seeds"]["sources"], *run.sections["benchmarks"]["sources"], *run.answer_key]
    uris = [source.get("uri", "") for source in sources] + run.sections["judging"].get("golden", [])
    return any(data_folder.MARK in uri for uri in uris) and not os.environ.get(data_folder.VARIABLE)


def require_files(run: RunOptions, profile: str) -> None:
    """Refuse a run whose files are not on this machine, before any work. What is in a store or on a hub is left to the run.

    Args:
        run: Checked options.
        profile: Its name, for the error.

    Raises:
        InputError: A file lies in ``{data}``, and the folder is not set.
        ParameterError: A file is missing, empty or cannot be read, or a folder has no file of the split that is wanted.
    """
    if needs_data_folder(run):
        raise InputError(
            "the profile names files in {data}, and no data folder is set", profile, hint="give --data FOLDER or set TUTORLOOP_DATA"
        )
    for role in ("seeds", "benchmarks"):
        for index, source in enumerate(parse_options(SeedsOptions, run.sections[role], role).sources):
            _require_source(source, f"{role}.sources[{index}].uri", source.split_read(seeds=role == "seeds"))
    if uses_offline_teacher(run):
        for index, values in enumerate(run.answer_key):
            source = parse_options(SourceOptions, values, f"answer_key[{index}]")
            _require_source(source, f"answer_key[{index}].uri", source.split_read(seeds=True))
        for index, uri in enumerate(run.offline_teacher.get("answer_key", [])):
            _require_file(uri, f"offline_teacher.answer_key[{index}]")
    for index, uri in enumerate(parse_options(JudgingOptions, run.sections["judging"], "judging").golden):
        _require_file(uri, f"judging.golden[{index}]")
    kind, _, place = parse_options(StudentOptions, run.sections["student"], "student").base_model.partition(":")
    if kind == "gguf":
        _require_readable(Path(place), "student.base_model", f"gguf:{place}")


def _require_source(source: SourceOptions, name: str, split: str) -> None:
    if source.adapter == "builtin" or source.uri.startswith("hub:"):
        return
    path = _local(source.uri, name)
    if path is None:
        return
    if not path.is_dir():
        _require_readable(path, name, source.uri)
        return
    try:
        chosen, files = files_of_split(path, split)
    except OSError as error:
        raise ParameterError(name, source.uri, f"a folder that can be read ({error.strerror})") from error
    if not chosen:
        listing = ", ".join(file.name for file in files) or f"no {', '.join(SUFFIXES)} file"
        raise ParameterError(name, source.uri, f"a folder with a file of the split {split!r} (it has {listing}); or name the file itself")
    for file in chosen:
        _require_readable(file, name, str(file))


def _require_file(uri: str, name: str) -> None:
    if (path := _local(uri, name)) is not None:
        _require_readable(path, name, uri)


def _local(uri: str, name: str) -> Path | None:
    """The path behind a URI; None where it is in a store."""
    uri = data_folder.expand(uri, name)
    return None if is_remote(uri) else Path(uri.removeprefix("file://"))


def _require_readable(path: Path, name: str, uri: str) -> None:
    try:
        with path.open("rb") as file:
            if file.read(1):
                return
        reason = "that is not empty"
    except FileNotFoundError:
        reason = "that exists: there is no such file or folder"
    except IsADirectoryError:
        reason = "and no folder"
    except OSError as error:
        reason = f"that can be read ({error.strerror})"
    raise ParameterError(name, uri, f"a file {reason}")


def warnings(run: RunOptions) -> list[str]:
    """What a person should know about a run before its work, though it is no error.

    Args:
        run: Checked options.
    """
    benchmarks = parse_options(SeedsOptions, run.sections["benchmarks"], "benchmarks").sources
    if any(source.dev_share or source.split_read(seeds=False) == "dev" for source in benchmarks):
        return []
    return [
        "no benchmark has dev problems, so nothing can be promoted: whether a model is better is decided on dev problems alone; "
        "give benchmarks.sources one with split: dev, or a train split with a dev_share"
    ]


def teachers_asked(run: RunOptions) -> list[str]:
    """Sections of the teachers that the run may ask: those of stages that need none are not looked for.

    Args:
        run: Checked options.
    """
    synthesis = parse_options(SynthesisOptions, run.sections["synthesis"], "synthesis")
    solving = parse_options(SolvingOptions, run.sections["solving"], "solving")
    judging = parse_options(JudgingOptions, run.sections["judging"], "judging")
    seeds = parse_options(SeedsOptions, run.sections["seeds"], "seeds").sources
    solved = solving.use_gold_solutions and all(source.adapter in ALWAYS_SOLVED for source in seeds)
    writes = synthesis.ask_me_anything or synthesis.suggester_editor
    asked = {"teacher": writes or not solved, "judge_teacher": judging.judge != "rule_only" or judging.measure_teacher}
    return [name for name, needed in asked.items() if needed]


def uses_offline_teacher(run: RunOptions) -> bool:
    """Whether a teacher that this run may ask is the offline teacher."""
    return any(run.sections[name].get("base_url") == OFFLINE for name in teachers_asked(run))


def uses_vllm(run: RunOptions) -> bool:
    """Whether sampling or evaluation use the vLLM engine, which has an image of its own."""
    return any(run.sections[name].get("engine") == "vllm" for name in ("sampling", "evaluation"))


def run_arguments(run: RunOptions) -> dict[str, Any]:
    """The arguments that a person chooses for a run: every option of every section with its value, and the seed.

    What an option has by default is there as well, so that a form shows what can be changed, and runs that are started in different
    ways with the same values find the same cached results. Options without a value are left out: KFP knows no null.

    Args:
        run: Checked options.
    """
    arguments: dict[str, Any] = {
        ("sft_options" if name == "sft" else name): _without_null(msgspec.to_builtins(parse_options(kind, run.sections[name], name)))
        for name, kind in SECTIONS.items()
    }
    return arguments | {"seed": run.seed}


def changed(run: RunOptions, profile: str) -> dict[str, Any]:
    """What a run does differently from its profile, by dotted names (``sft.learning_rate``), in the order of the sections.

    Args:
        run: Checked options.
        profile: Name of a profile that comes with TutorLoop; of any other, which may be a file elsewhere, nothing is known.
    """
    if profile not in profile_names():
        return {}
    given, before = run_arguments(run), run_arguments(load(profile))
    found = {"seed": run.seed} if given.pop("seed") != before.pop("seed") else {}
    for name, section in given.items():
        names = [option for option in section | before[name] if section.get(option) != before[name].get(option)]
        found |= {f"{name.removesuffix('_options')}.{option}": section.get(option, "") for option in names}
    return found


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_null(item) for key, item in value.items() if item is not None}
    return [_without_null(item) for item in value] if isinstance(value, list) else value


def pipeline_arguments(run: RunOptions, *, stores: Mapping[str, str], profile: str = "", pipeline_digest: str = "") -> dict[str, Any]:
    """All arguments of the compiled pipeline.

    Args:
        run: Checked options.
        stores: URIs of ``responses``, ``checkpoints``, ``models`` and ``records``.
        profile: Name of the profile, for the record.
        pipeline_digest: Digest of the compiled package; what the package itself names when empty.
    """
    arguments = {**run_arguments(run), **stores, "profile": profile}
    if pipeline_digest:
        arguments["pipeline_digest"] = pipeline_digest
    arguments["data_shards"] = [f"{index}/{run.data_shards}" for index in range(run.data_shards)]
    arguments["sampling_shards"] = [f"{index}/{run.sampling_shards}" for index in range(run.sampling_shards)]
    return arguments
