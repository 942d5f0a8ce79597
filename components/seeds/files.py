"""From a URI to raw rows: finding the files of a split, and reading JSON Lines, JSON arrays and XML with exact error places."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from components.core.errors import InputError
from components.core.store import fetch, is_remote
from components.seeds.splits import files_of_split


@dataclass(frozen=True)
class RawRow:
    """One row as the set publishes it, with its place.

    Attributes:
        data: Field names to values.
        path: File or data set id.
        number: 1-based line, or element of an array, XML file or hub data set.
        unit: ``line`` or ``element``.
    """

    data: Mapping[str, Any]
    path: str
    number: int
    unit: str

    def error(self, reason: str) -> InputError:
        """The error that names this row's place."""
        hint = "correct or remove it, or set malformed: drop for this source to leave such rows out"
        if self.unit == "line":
            return InputError(reason, self.path, self.number, hint)
        return InputError(f"element {self.number}: {reason}", self.path, hint=hint)


def locate(uri: str, split: str, scratch: Path) -> list[Path]:
    """The files behind a URI that hold a split; for a folder see :func:`files_of_split`.

    Args:
        uri: A path or ``s3://bucket/key``.
        split: ``train``, ``dev`` or ``test``.
        scratch: Where downloads go.

    Raises:
        InputError: Nothing there, or no file of that split.
    """
    root = fetch(uri, scratch) if is_remote(uri) else Path(uri.removeprefix("file://"))
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise InputError("no such file or folder", uri, hint="check the path; {data} stands for the folder in TUTORLOOP_DATA")
    chosen, files = files_of_split(root, split)
    if not chosen:
        listing = ", ".join(path.name for path in files) or "no .jsonl, .json or .xml file"
        raise InputError(f"no file of the split {split!r} in this folder ({listing})", uri, hint="name the file itself, or another split")
    return chosen


def read_rows(path: Path) -> Iterator[RawRow]:
    """Yield the rows of a JSON Lines file, a JSON array or an ASDiv-style XML file.

    The form is told by the content, since sets publish JSON Lines under ``.json`` too.

    Raises:
        InputError: Unreadable, empty, not UTF-8 or malformed, with the line.
    """
    try:
        with path.open("rb") as handle:
            head = handle.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path) from error
    if not head:
        raise InputError("the file is empty", path, hint="download it again, or name another file")
    if head[:1] == b"[":
        yield from _array_rows(path)
    elif head[:1] == b"<":
        yield from _xml_rows(path)
    else:
        yield from _line_rows(path)


def _line_rows(path: Path) -> Iterator[RawRow]:
    decoder = msgspec.json.Decoder()
    with path.open("rb") as handle:
        for number, line in enumerate(handle, start=1):
            content = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if not content.strip():
                continue
            _check_text(content, path, number)
            try:
                value = decoder.decode(content)
            except msgspec.DecodeError as error:
                raise InputError(f"not a JSON object: {error}", path, number, "correct or remove the line") from error
            yield _row(value, path, number, "line")


def _array_rows(path: Path) -> Iterator[RawRow]:
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    _check_text(content, path, 1)
    try:
        values = json.loads(content)
    except json.JSONDecodeError as error:
        raise InputError(f"not valid JSON: {error.msg} (column {error.colno})", path, error.lineno) from error
    for number, value in enumerate(values, start=1):
        yield _row(value, path, number, "element")


def _xml_rows(path: Path) -> Iterator[RawRow]:
    content = path.read_bytes()
    _check_text(content, path, 1)
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise InputError(f"not valid XML: {error}", path, error.position[0]) from error
    for number, element in enumerate(root.iter("Problem"), start=1):
        fields = {child.tag: (child.text or "").strip() for child in element}
        yield RawRow({**element.attrib, **fields}, str(path), number, "element")


def _check_text(content: bytes, path: Path, first_line: int) -> None:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first_line + content.count(b"\n", 0, error.start)
        raise InputError(
            f"not UTF-8 text (byte 0x{content[error.start]:02x})", path, line, "save the file with the encoding UTF-8"
        ) from error


def _row(value: Any, path: Path, number: int, unit: str) -> RawRow:
    if not isinstance(value, dict):
        raise RawRow({}, str(path), number, unit).error(f"expected a JSON object, found {type(value).__name__}")
    return RawRow(value, str(path), number, unit)
