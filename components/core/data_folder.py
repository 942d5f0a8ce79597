"""``{data}`` in a URI of a profile: the folder of data sets (or ``s3://bucket/prefix``), which differs from machine to machine."""

from __future__ import annotations

import os

from components.core.errors import ParameterError

MARK = "{data}"
VARIABLE = "TUTORLOOP_DATA"


def expand(uri: str, name: str) -> str:
    """Put the environment variable TUTORLOOP_DATA in the place of ``{data}``.

    Args:
        uri: A URI with or without the mark.
        name: Name of the parameter that holds it, for the error.

    Raises:
        ParameterError: No URI, or the variable is needed and not set.
    """
    if not uri:
        raise ParameterError(name, uri, "a file, a folder, s3://bucket/key or hub:<data set id>")
    if MARK not in uri:
        return uri
    folder = os.environ.get(VARIABLE)
    if not folder:
        raise ParameterError(name, uri, f"a URI with {MARK} only when the environment variable {VARIABLE} names the folder")
    return uri.replace(MARK, folder.rstrip("/"))
