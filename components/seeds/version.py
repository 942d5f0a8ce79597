"""What the sources hold now, as one hash: it tells KFP's cache that a file behind an unchanged URI has changed.

Every task depends on one of these hashes, so that they also limit the age of what is taken from the cache: on a cluster it names
artifacts in the object store without looking whether a lifecycle rule has removed them.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from components.core.data_folder import expand
from components.core.errors import ParameterError
from components.core.records import row_id
from components.core.store import sha256_of
from components.seeds.files import locate
from components.seeds.hub import PREFIX
from components.seeds.options import SeedsOptions

CACHE_DAYS = "TUTORLOOP_CACHE_DAYS"
"""Environment variable with the longest age of a cached result in days; no limit when not set."""


def cache_period() -> str:
    """Name of the current period of the cache; empty where its age is not limited.

    Raises:
        ParameterError: The variable is not a number of days.
    """
    text = os.environ.get(CACHE_DAYS, "")
    if not text:
        return ""
    if not text.isdecimal() or int(text) == 0:
        raise ParameterError(CACHE_DAYS, text, "a whole number of days, 1 or more")
    return f"{text}:{int(time.time() // 86_400) // int(text)}"


def sources_version(options: SeedsOptions, role: str) -> str:
    """Hash of the contents of all sources.

    A hub data set counts by its id, configuration and revision: only a pinned revision says what it holds.

    Args:
        options: The sources.
        role: ``seeds`` or ``benchmarks``; decides which split of a folder is read.

    Raises:
        InputError: A file is missing.
        ParameterError: The data folder is needed and not set, or the age of the cache is wrong.
    """
    parts: list[str] = [cache_period()]
    for index, source in enumerate(options.sources):
        where = f"{role}.sources[{index}]"
        split = source.split_read(seeds=role == "seeds")
        uri = "" if source.adapter == "builtin" else expand(source.uri, f"{where}.uri")
        if not uri or uri.startswith(PREFIX):
            parts += [uri, source.config, source.revision]
            continue
        with tempfile.TemporaryDirectory() as scratch:
            parts += [sha256_of(path) for path in locate(uri, split, Path(scratch))]
    return row_id(*parts)
