"""Rows of a hub data set, or of a local data set folder, through the ``datasets`` library."""

from __future__ import annotations

from collections.abc import Iterator

from components.core.errors import InputError, ParameterError
from components.seeds.files import RawRow
from components.seeds.splits import named_split

PREFIX = "hub:"


def hub_rows(uri: str, split: str, config: str, revision: str) -> Iterator[RawRow]:
    """Yield the rows of one split.

    Args:
        uri: ``hub:<data set id or local folder>``.
        split: Our split; the hub's own name for it (``validation``) is looked up.
        config: Configuration name, or empty.
        revision: Commit, tag or branch, or empty.

    Raises:
        InputError: The data set, its configuration or split is not there, or the hub cannot be reached.
    """
    try:
        import datasets
    except ImportError as error:
        raise InputError("reading hub data sets needs the package datasets", uri, hint="pip install datasets") from error
    name = uri.removeprefix(PREFIX)
    chosen = {"path": name, "revision": revision or None}
    try:
        offered = datasets.get_dataset_split_names(config_name=config or None, **chosen)
        matching = [offer for offer in offered if named_split(offer) == split]
        if not matching:
            raise ParameterError("split", split, f"the splits of {name}: " + ", ".join(offered))
        rows = datasets.load_dataset(name=config or None, split=matching[0], revision=revision or None, path=name)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        hint = "check the data set id, the source's config and revision, and the network (HF_ENDPOINT, HF_HUB_OFFLINE)"
        raise InputError(f"cannot be loaded: {error}", uri, hint=hint) from error
    for number, row in enumerate(rows, start=1):
        yield RawRow(row, uri, number, "element")
