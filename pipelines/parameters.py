"""A profile is one file with one complete set of parameters: read, overridden and checked here before any work starts."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from components.contamination.options import ContaminationOptions
from components.core import data_folder
from components.core.errors import InputError, ParameterError
from components.core.options import Options, parse_options
from components.core.store import MissingKeyError, fetched
from components.evaluation.options import EvaluationOptions
from components.judging.options import JudgingOptions
from components.offline_teacher.options import OfflineTeacherOptions
from components.preference_tuning.options import TuningOptions
from components.preferences.options import PreferenceOptions
from components.promotion.options import PromotionOptions
from components.sampling.options import SamplingOptions
from components.seeds.options import SeedsOptions
from components.sft.options import SFTOptions
from components.solving.options import SolvingOptions
from components.student.options import StudentOptions
from components.synthesis.options import SynthesisOptions
from components.teacher.options import OFFLINE, TeacherOptions
from pipelines.cluster import parse_cluster

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
    rounds: int = 2
    seed: int = 0
    data_shards: int = 1
    sampling_shards: int = 1
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
        _assign(values, name.strip(), yaml.load(text, Loader=YamlLoader))
    return values


class YamlLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML follows YAML 1.1, where ``1e-6`` is text; in YAML 1.2, which people write, it is a number."""


YamlLoader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789"))


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
    *path, last = name.split(".")
    for part in path:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise ParameterError(name, value, f"{part} holds a single value, it has no names below it")
    values[last] = value


def check(values: Mapping[str, Any]) -> RunOptions:
    """Check a whole set of parameters.

    Returns:
        The options, with every section present and its defaults left to the stage.

    Raises:
        ParameterError: A name or value is wrong; says where and what is allowed.
    """
    own = {name: value for name, value in values.items() if name not in SECTIONS}
    names = {field.name for field in msgspec.structs.fields(RunOptions)} - {"sections"}
    for name in own:
        if name not in names:
            raise ParameterError(name, own[name], "one of " + ", ".join(sorted(names | set(SECTIONS))))
    sections = {name: dict(values.get(name) or {}) for name in SECTIONS}
    if not sections["judge_teacher"]:
        sections["judge_teacher"] = dict(sections["teacher"])
    elif "prices" in sections["teacher"]:
        # One table may hold the prices of both models.
        sections["judge_teacher"].setdefault("prices", sections["teacher"]["prices"])
    for name, kind in SECTIONS.items():
        options = parse_options(kind, sections[name], name)
        if isinstance(options, TeacherOptions):
            options.check(name)
    run = parse_options(RunOptions, {**own, "sections": sections}, "profile")
    for name in ("rounds", "data_shards", "sampling_shards"):
        if getattr(run, name) < 1:
            raise ParameterError(name, getattr(run, name), "a whole number, 1 or more")
    parse_options(OfflineTeacherOptions, run.offline_teacher, "offline_teacher")
    parse_cluster(run.cluster)
    if run.answer_key:
        parse_options(SeedsOptions, {"sources": run.answer_key}, "answer_key")
    return run


def needs_data_folder(run: RunOptions) -> bool:
    """Whether a file of the profile lies in ``{data}`` while the folder is not set."""
    sources = [*run.sections["seeds"]["sources"], *run.sections["benchmarks"]["sources"], *run.answer_key]
    uris = [source.get("uri", "") for source in sources] + run.sections["judging"].get("golden", [])
    return any(data_folder.MARK in uri for uri in uris) and not os.environ.get(data_folder.VARIABLE)


def require_data_folder(run: RunOptions, profile: str) -> None:
    """Refuse a profile whose files lie in ``{data}`` while the folder is not set.

    Raises:
        InputError: They do.
    """
    if needs_data_folder(run):
        raise InputError(
            "the profile names files in {data}, and no data folder is set", profile, hint="give --data FOLDER or set TUTORLOOP_DATA"
        )


def uses_offline_teacher(run: RunOptions) -> bool:
    """Whether a teacher of this run is the offline teacher."""
    return any(run.sections[name].get("base_url") == OFFLINE for name in ("teacher", "judge_teacher"))


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
