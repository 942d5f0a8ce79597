"""Refuses a run whose files are not on this machine, before any work. What is in a store or on a hub is left to the run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from components.core import data_folder
from components.core.errors import InputError, ParameterError
from components.core.options import parse_options
from components.core.store import is_remote
from components.judging.options import JudgingOptions
from components.seeds.options import SeedsOptions, SourceOptions
from components.seeds.splits import SUFFIXES, files_of_split
from components.student.options import StudentOptions
from pipelines.parameters.profile import RunOptions, uses_offline_teacher


def needs_data_folder(run: RunOptions) -> bool:
    """Whether a file of the profile lies in ``{data}`` while the folder is not set."""
    named = _texts([msgspec.to_builtins(run.sections), run.profile.answer_key])
    return any(data_folder.MARK in text for text in named) and not os.environ.get(data_folder.VARIABLE)


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _texts(item)]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []


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
    if uses_offline_teacher(run):
        for index, values in enumerate(run.profile.answer_key):
            source = parse_options(SourceOptions, values, f"answer_key[{index}]")
            _require_source(source, f"answer_key[{index}].uri", source.split_read(seeds=True))
        for index, uri in enumerate(run.profile.offline_teacher.get("answer_key", [])):
            _require_file(uri, f"offline_teacher.answer_key[{index}]")
    for name, options in run.sections.items():
        if isinstance(options, SeedsOptions):
            for index, source in enumerate(options.sources):
                _require_source(source, f"{name}.sources[{index}].uri", source.split_read(seeds=name != "benchmarks"))
        elif isinstance(options, JudgingOptions):
            for index, uri in enumerate(options.golden):
                _require_file(uri, f"{name}.golden[{index}]")
        elif isinstance(options, StudentOptions):
            kind, _, place = options.base_model.partition(":")
            if kind == "gguf":
                _require_readable(Path(place), f"{name}.base_model", f"gguf:{place}")


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
