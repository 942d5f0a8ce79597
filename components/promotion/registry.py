"""The model store: versions that appear whole or not at all, and a champion pointer that moves in one write.

Layout below the store's URI::

    versions/<version>/...             files of a version; the name is a hash of their contents
    versions/<version>/manifest.json   sha256 of every file, written last: without it the version does not exist
    champions/<generation>.json        one claim per champion, made with an atomic create: two publishers cannot both have it
    champion.json                      the latest claim, for readers
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from components.core.errors import StoreError
from components.core.store import MissingKeyError, Store, sha256_of
from components.promotion.records import Manifest, ManifestFile, Pointer

T = TypeVar("T", bound=msgspec.Struct)

POINTER = "champion.json"


def version_folder(version: str) -> str:
    """Key prefix of a version."""
    return f"versions/{version}"


def _claim_key(generation: int) -> str:
    return f"champions/{generation:08d}.json"


def list_files(files: Mapping[str, Path]) -> list[ManifestFile]:
    """Digests and sizes of files, sorted by the path that they have within the version."""
    return [ManifestFile(path=name, sha256=sha256_of(path), bytes=path.stat().st_size) for name, path in sorted(files.items())]


def version_name(files: Iterable[ManifestFile]) -> str:
    """Name of the version with these files: 16 hex digits of SHA-256 over their paths and digests."""
    lines = sorted(f"{file.sha256}  {file.path}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def publish_version(store: Store, files: Mapping[str, Path]) -> tuple[Manifest, bool]:
    """Bring files into the store as a version.

    Args:
        store: The model store.
        files: Path within the version to file on this machine.

    Returns:
        The manifest, and True when this call wrote it (False when the same content had been published before).

    Raises:
        StoreError: The store cannot be written; whatever was written so far is not a version.
    """
    listed = list_files(files)
    manifest = Manifest(version=version_name(listed), files=listed)
    root = version_folder(manifest.version)
    if store.exists(f"{root}/manifest.json"):
        return manifest, False
    for name, path in sorted(files.items()):
        store.upload(path, f"{root}/{name}")
    return manifest, store.create(f"{root}/manifest.json", msgspec.json.format(msgspec.json.encode(manifest), indent=1))


def read_pointer(store: Store) -> Pointer | None:
    """The champion; None when there has never been one.

    A publisher that died between its claim and the move of ``champion.json`` has promoted its version all the same: its claim
    counts.
    """
    pointer = _read(store, POINTER, Pointer)
    while (later := _read(store, _claim_key(pointer.generation + 1 if pointer else 1), Pointer)) is not None:
        pointer = later
    return pointer


def current_champion(store: Store) -> str:
    """Version name of the champion; empty when there is none.

    Raises:
        StoreError: The pointer names a version that has no manifest.
    """
    pointer = read_pointer(store)
    if pointer is None:
        return ""
    if not store.exists(f"{version_folder(pointer.version)}/manifest.json"):
        raise StoreError(
            f"{store.uri}: {POINTER} names the version {pointer.version!r}, which does not exist",
            f"bring the version back, or let {POINTER} name a version that has a manifest.json",
        )
    return pointer.version


def promote(store: Store, version: str, expected: str) -> str:
    """Make a published version the champion, if the champion is still the one that it was compared with.

    Args:
        store: The model store.
        version: The version, with its manifest in place.
        expected: Version name of the champion that it was compared with; empty for none.

    Returns:
        ``moved``; ``unchanged`` when it is the champion already; ``superseded`` when another version became champion meanwhile.

    Raises:
        StoreError: The version is not published.
    """
    if not store.exists(f"{version_folder(version)}/manifest.json"):
        raise StoreError(f"{store.uri}: the version {version!r} is not published, so it cannot be the champion")
    before = read_pointer(store)
    held = before.version if before else ""
    if held == version:
        outcome = "unchanged"
    elif held != expected:
        outcome = "superseded"
    else:
        claim = Pointer(
            version=version,
            generation=before.generation + 1 if before else 1,
            previous=held,
            promoted_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
        won = store.create(_claim_key(claim.generation), msgspec.json.encode(claim))
        outcome = "moved" if won else "superseded"
    _settle(store)
    holder = read_pointer(store)
    return "unchanged" if outcome == "superseded" and holder and holder.version == version else outcome


def _settle(store: Store) -> None:
    """Let ``champion.json`` name the latest claim; also finishes the move of a publisher that died."""
    while (latest := read_pointer(store)) != _read(store, POINTER, Pointer) and latest is not None:
        store.write(POINTER, msgspec.json.encode(latest))


def _read(store: Store, key: str, kind: type[T]) -> T | None:
    try:
        data = store.read(key)
    except MissingKeyError:
        return None
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise StoreError(f"{store.uri}: {key} is damaged: {error}", "put a copy of an intact one in its place") from error
