"""A profile is one file with one complete set of parameters: read, overridden and checked here before any work starts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from components.core.errors import InputError, ParameterError
from components.core.options import Options, OptionsT, RandomSeed, parse_options, plain, shown
from components.core.store import MissingKeyError, fetched
from components.offline_teacher.options import OfflineTeacherOptions
from components.seeds.options import SourceOptions
from components.student.options import GenerationOptions
from components.teacher.options import OFFLINE, TeacherOptions
from pipelines.methods import DEFAULT, METHODS
from pipelines.methods.method import Method
from pipelines.parameters.yaml_loader import YamlLoader
from pipelines.parts.cluster import ClusterOptions, parse_cluster

INDEX = re.compile(r"\[(\d+)\]")


class ProfileOptions(Options, frozen=True, kw_only=True):
    """The top level of a profile: what is not an option of one stage. What a method's graph looks like is there as well.

    Attributes:
        description: For people.
        method: Name of the method.
        seed: Seed of everything random.
        offline_teacher: Options of the offline teacher that is started when a teacher's ``base_url`` is ``offline``.
        answer_key: Sources (as in ``seeds.sources``) whose worked solutions the offline teacher may give.
        cluster: How tasks run on a cluster (``pipelines.parts.cluster``); fixed when the pipeline is compiled.
    """

    description: str = ""
    method: str = DEFAULT
    seed: RandomSeed = 0
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
            name: Name of the section.
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
        The options, with every section of the method.

    Raises:
        ParameterError: A name or value is wrong; says where and what is allowed.
    """
    method = _method(values)
    own = {name: plain(value, str(name)) for name, value in values.items() if name not in method.sections}
    shape_names = {field.name for field in msgspec.structs.fields(method.shape)}
    names = {field.name for field in msgspec.structs.fields(ProfileOptions)} | shape_names
    for name in own:
        if name not in names:
            allowed = "one of " + ", ".join(sorted(names | set(method.sections)))
            raise ParameterError(str(name), shown(str(name), own[name], known=False), allowed)
    sections = {name: parse_options(method.sections[name], given, name) for name, given in _given(values, method)}
    parse_options(OfflineTeacherOptions, own.get("offline_teacher", {}), "offline_teacher")
    cluster = parse_cluster(own.get("cluster", {}))
    profile = parse_options(ProfileOptions, {name: value for name, value in own.items() if name not in shape_names}, "")
    shape = parse_options(method.shape, {name: value for name, value in own.items() if name in shape_names}, "")
    if not cluster.pipeline:
        cluster = msgspec.structs.replace(cluster, pipeline=method.pipeline)
    for index, source in enumerate(profile.answer_key):
        name = f"answer_key[{index}]"
        parse_options(SourceOptions, source, name).check_role(name, seeds=True)
    return RunOptions(profile=profile, shape=shape, cluster=cluster, sections=sections)


def _method(values: Mapping[str, Any]) -> Method:
    name = values.get("method", DEFAULT)
    if not isinstance(name, str) or name not in METHODS:
        raise ParameterError("method", name, "one of " + ", ".join(METHODS))
    return METHODS[name]


def _given(values: Mapping[str, Any], method: Method) -> Iterator[tuple[str, Any]]:
    """What a profile says of each section, the sections of further teachers filled from that of the first."""
    first, *others = [*method.teachers, ""]
    # A section with nothing below its name is YAML's null.
    given = {name: {} if values.get(name) is None else values[name] for name in method.sections}
    for name, section in given.items():
        whole = given.get(first) if name in others else None
        if not isinstance(section, Mapping) or not isinstance(whole, Mapping):
            yield name, section
        elif not section:
            yield name, whole
        else:
            # One table may hold the prices of all models.
            yield name, {**{shared: whole[shared] for shared in ("prices",) if shared in whole}, **section}


def warnings(run: RunOptions) -> list[str]:
    """What a person should know about a run before its work, though it is no error.

    Args:
        run: Checked options.
    """
    return run.method.warnings(run.sections)


def uses_offline_teacher(run: RunOptions) -> bool:
    """Whether a teacher that this run may ask is the offline teacher."""
    return any(run.section(TeacherOptions, name).base_url == OFFLINE for name in run.method.asked(run.sections))


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


def compiled_in(run: RunOptions) -> set[str]:
    """Parts of a profile that are compiled into its package, so that a run on a cluster is not given them."""
    return {field.name for kind in (ProfileOptions, run.method.shape) for field in msgspec.structs.fields(kind)} - {"seed"}


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
