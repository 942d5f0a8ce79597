"""What the sources hold now, as one hash: it tells KFP's cache that a file behind an unchanged URI has changed."""

from __future__ import annotations

import tempfile
from pathlib import Path

from components.core.data_folder import expand
from components.core.records import row_id
from components.core.store import sha256_of
from components.seeds.files import locate
from components.seeds.hub import PREFIX
from components.seeds.options import SeedsOptions
from components.seeds.select import resolve_split


def sources_version(options: SeedsOptions, role: str) -> str:
    """Hash of the contents of all sources.

    A hub data set counts by its id, configuration and revision: only a pinned revision says what it holds.

    Args:
        options: The sources.
        role: ``seeds`` or ``benchmarks``; decides which split of a folder is read.

    Raises:
        InputError: A file is missing.
        ParameterError: A test split as seeds, or options that do not fit together.
    """
    parts: list[str] = []
    for index, source in enumerate(options.sources):
        where = f"{role}.sources[{index}]"
        split = resolve_split(source, role == "seeds", where)
        uri = "" if source.adapter == "builtin" else expand(source.uri, f"{where}.uri")
        if not uri or uri.startswith(PREFIX):
            parts += [uri, source.config, source.revision]
            continue
        with tempfile.TemporaryDirectory() as scratch:
            parts += [sha256_of(path) for path in locate(uri, split, Path(scratch))]
    return row_id(*parts)
