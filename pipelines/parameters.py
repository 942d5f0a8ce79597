"""A profile is one file with one complete set of parameters: read, overridden and checked here before any work starts."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from components.core import data_folder
from components.core.errors import InputError, ParameterError
from components.core.options import Options, OptionsT, parse_options
from components.core.store import MissingKeyError, fetched
from components.offline_teacher.options import OfflineTeacherOptions
from components.seeds.options import SeedsOptions
from components.student.options import GenerationOptions
from components.teacher.options import OFFLINE, TeacherOptions
from pipelines.cluster import ClusterOptions, parse_cluster
from pipelines.method import Method
from pipelines.methods import DEFAULT, METHODS


class ProfileOptions(Options, frozen=True, kw_only=True):
    """The top level of a profile: what is not an option of one stage. What a method's graph looks like is there as well.

    Attributes:
        description: For people.
        method: Name of the method.
        seed: Seed of everything random.
        offline_teacher: Options of the offline teacher that is started when a teacher's ``base_url`` is ``offline``.
        answer_key: Sources (as in ``seeds.sources``) whose worked solutions the offline teacher may give.
        cluster: How tasks run on a cluster (``pipelines.cluster``); fixed when the pipeline is compiled.
    """

    description: str = ""
    method: str = DEFAULT
    seed: int = 0
    offline_teacher: dict[str, Any] = {}
    answer_key: list[dict[str, Any]] = []
    cluster: dict[str, Any] = {}


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """A whole set of parameters that was checked.

    Attributes:
        profile: Its top level.
        shape: What the graph looks like; of the method's class.
        cluster: How tasks run on a cluster.
        sections: The options of the stages, by section; all of the method's are there.
    """

    profile: ProfileOptions
    shape: Any
    cluster: ClusterOptions
    sections: dict[str, Any]

    @property
    def method(self) -> Method:
        """The method that the profile names."""
        return METHODS[self.profile.method]

    @property
    def seed(self) -> int:
        """Seed of everything random."""
        return self.profile.seed

    def section(self, kind: type[OptionsT], name: str) -> OptionsT:
        """The options of a stage.

        Args:
            kind: Their class.
            name: Of the section.
        """
        options = self.sections[name]
        assert isinstance(options, kind)
        return options

    def shape_of(self, kind: type[OptionsT]) -> OptionsT:
        """What the graph looks like, as the class of the method that asks."""
        assert isinstance(self.shape, kind)
        return self.shape

    def record(self) -> dict[str, Any]:
        """All values, as a run's record keeps them: the top level as in a profile, and the sections apart."""
        top = {**msgspec.to_builtins(self.profile), **msgspec.to_builtins(self.shape), "cluster": msgspec.to_builtins(self.cluster)}
        return {**top, "sections": msgspec.to_builtins(self.sections)}


def profile_names() -> list[str]:
    """Names of the profiles that come with TutorLoop."""
    return sorted(_profiles())


def _profiles() -> dict[str, Path]:
    return {name: path for method in METHODS.values() for name, path in method.profiles.items()}


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
        known = _profiles()
        if profile not in known:
            raise ParameterError("--profile", profile, "one of " + ", ".join(sorted(known)) + ", or a YAML file (path or s3://bucket/key)")
        uri = str(known[profile])
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
    method = _method(values)
    own = {name: value for name, value in values.items() if name not in method.sections}
    shape_names = {field.name for field in msgspec.structs.fields(method.shape)}
    names = {field.name for field in msgspec.structs.fields(ProfileOptions)} | shape_names
    for name in own:
        if name not in names:
            raise ParameterError(name, own[name], "one of " + ", ".join(sorted(names | set(method.sections))))
    given = {name: dict(values.get(name) or {}) for name in method.sections}
    first, *others = [*method.teachers, ""]
    for name in filter(None, others):
        if not given[name]:
            given[name] = dict(given[first])
        elif "prices" in given[first]:
            # One table may hold the prices of all models.
            given[name].setdefault("prices", given[first]["prices"])
    sections = {name: parse_options(kind, given[name], name) for name, kind in method.sections.items()}
    for name in method.teachers:
        options = sections[name]
        assert isinstance(options, TeacherOptions)
        options.check(name)
    profile = parse_options(ProfileOptions, {name: value for name, value in own.items() if name not in shape_names}, "")
    shape = parse_options(method.shape, {name: value for name, value in own.items() if name in shape_names}, "")
    parse_options(OfflineTeacherOptions, profile.offline_teacher, "offline_teacher")
    cluster = parse_cluster(profile.cluster)
    if not cluster.pipeline:
        cluster = msgspec.structs.replace(cluster, pipeline=method.pipeline)
    if profile.answer_key:
        parse_options(SeedsOptions, {"sources": profile.answer_key}, "answer_key")
    return RunOptions(profile=profile, shape=shape, cluster=cluster, sections=sections)


def _method(values: Mapping[str, Any]) -> Method:
    name = values.get("method", DEFAULT)
    if name not in METHODS:
        raise ParameterError("method", name, "one of " + ", ".join(METHODS))
    return METHODS[name]


def needs_data_folder(run: RunOptions) -> bool:
    """Whether a file of the profile lies in ``{data}`` while the folder is not set."""
    uris = _texts([msgspec.to_builtins(run.sections), run.profile.answer_key])
    return any(data_folder.MARK in uri for uri in uris) and not os.environ.get(data_folder.VARIABLE)


def _texts(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [text for item in value.values() for text in _texts(item)]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []


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
    return any(run.section(TeacherOptions, name).base_url == OFFLINE for name in run.method.teachers)


def uses_vllm(run: RunOptions) -> bool:
    """Whether a stage generates with the vLLM engine, which has an image of its own."""
    return any(options.engine == "vllm" for options in run.sections.values() if isinstance(options, GenerationOptions))


def run_arguments(run: RunOptions) -> dict[str, Any]:
    """The arguments that a person chooses for a run: every option of every section with its value, and the seed.

    What an option has by default is there as well, so that a form shows what can be changed, and runs that are started in different
    ways with the same values find the same cached results. Options without a value are left out: KFP knows no null.

    Args:
        run: Checked options.
    """
    sections: dict[str, Any] = _without_null(msgspec.to_builtins(run.sections))
    return sections | {"seed": run.seed}


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
        found |= {f"{name}.{option}": section.get(option, "") for option in names}
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
    for name in run.method.shards:
        count = getattr(run.shape, name)
        arguments[name] = [f"{index}/{count}" for index in range(count)]
    return arguments
