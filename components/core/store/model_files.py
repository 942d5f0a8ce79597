"""Large models move once: between tasks goes a reference, the files lie in the object store and in a cache of each node.

Kubeflow copies every input artifact into each task that reads it. With ``TUTORLOOP_MODEL_STORE`` set, a model folder above a size
holds only its description and a reference; whoever needs the weights asks :func:`whole` for them.

    <store>/models/<digest>/...        the files of a model; never changed, since the digest is over their contents
    <store>/models/<digest>.complete   written last: without it the model is not there; says when that was
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from components.core.errors import InputError, ModelError, ParameterError
from components.core.records import Record, digest_of
from components.core.store import MissingKeyError, Store, is_remote, open_store

INFO = "tutorloop.json"
"""A model's description. Two models of the same weights differ in it."""
REFERENCE = "reference.json"
STORE_VARIABLE = "TUTORLOOP_MODEL_STORE"
SIZE_VARIABLE = "TUTORLOOP_MODEL_STORE_FROM_MB"
FROM_MB = 1000.0
FRESH_S = 7 * 86_400.0
CACHE_VARIABLE = "TUTORLOOP_MODEL_CACHE"


class ModelReference(Record, frozen=True, kw_only=True):
    """Where a model's files lie.

    Attributes:
        uri: Address of the folder in the store.
        digest: SHA-256 over its files.
    """

    uri: str
    digest: str


def share(folder: Path, store: str) -> ModelReference:
    """Bring a model into a store, unless it has been brought there within the last days.

    One that has been there for longer is brought again, since a lifecycle rule may be about to remove it.

    Args:
        folder: A model folder, or one that is a reference itself.
        store: URI of the store; the model goes below ``models/``.

    Raises:
        ModelError: The folder is no model of this pipeline.
        StoreError: The store cannot be written.
    """
    known = reference_in(folder)
    if known is not None:
        return known
    if not (folder / INFO).is_file():
        raise ModelError(f"{folder} is not a model of this pipeline: it has no {INFO}", "give a folder that a stage wrote")
    digest = digest_of(folder)
    opened, key = open_store(store), f"models/{digest}"
    if not _fresh(opened, f"{key}.complete"):
        opened.upload(folder, key)
        opened.write(f"{key}.complete", str(time.time()).encode())
    return ModelReference(uri=f"{store.rstrip('/')}/{key}", digest=digest)


def hand_on(folder: Path) -> bool:
    """Replace a large model folder by a reference, where the environment says so; the last thing that a stage does with its model.

    Environment:
        TUTORLOOP_MODEL_STORE: Store (``s3://``) for the files; models stay whole when it is not set.
        TUTORLOOP_MODEL_STORE_FROM_MB: Smallest size in megabytes that is worth it, 1000 when not set.

    Returns:
        Whether the folder is a reference now.

    Raises:
        StoreError: The store cannot be written.
        ParameterError: The size is no number.
    """
    store = os.environ.get(STORE_VARIABLE, "")
    if not is_remote(store) or _size(folder) < _smallest():
        return False
    refer(share(folder, store), folder / INFO, folder)
    return True


def refer(reference: ModelReference, info: Path, folder: Path) -> None:
    """Make a folder that refers to a model.

    Args:
        reference: The model.
        info: Its description.
        folder: Replaced.
    """
    partial = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    (partial / REFERENCE).write_bytes(msgspec.json.encode(reference))
    shutil.copyfile(info, partial / INFO)
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)


def pass_on(model: Path, folder: Path) -> None:
    """Hand on a model as it came, whole or as a reference: the same files, so that its digest stays.

    Args:
        model: Folder of the model.
        folder: Replaced.
    """
    partial = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(model, partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)


def receive(reference: ModelReference, folder: Path) -> None:
    """Hand on a model that is in a store already: as a reference where models move so, else whole.

    Args:
        reference: The model.
        folder: Replaced.
    """
    with tempfile.TemporaryDirectory(prefix="tutorloop-model-") as scratch:
        store, _, key = reference.uri.rpartition("/models/")
        opened = open_store(store)
        info = opened.download(f"models/{key}/{INFO}", Path(scratch) / INFO)
        if is_remote(os.environ.get(STORE_VARIABLE, "")):
            refer(reference, info, folder)
            return
    partial = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    _download(reference, partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)


def whole(folder: Path) -> Path:
    """The folder with a model's files: itself, or the copy of this machine if it is a reference.

    Environment:
        TUTORLOOP_MODEL_CACHE: Folder for copies, such as a volume that the tasks of a node share; one of this process's machine
            when not set. A copy that is there is not fetched again. Nothing is ever removed from it.

    Raises:
        ModelError: The store no longer has the model, or what it has is damaged.
        StoreError: The store cannot be reached.
    """
    reference = reference_in(folder)
    if reference is None:
        return folder
    cache = Path(os.environ.get(CACHE_VARIABLE) or Path(tempfile.gettempdir()) / "tutorloop-models")
    cache.mkdir(parents=True, exist_ok=True)
    copy = cache / reference.digest
    with _alone(cache / f".{reference.digest}.lock"):
        if not copy.is_dir():
            partial = cache / f".{reference.digest}.{uuid.uuid4().hex}.part"
            try:
                _download(reference, partial)
                partial.replace(copy)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return copy


def reference_in(folder: Path) -> ModelReference | None:
    """The reference in a folder; None for a folder that holds a model, or nothing.

    Raises:
        InputError: It is broken.
    """
    path = folder / REFERENCE
    try:
        return msgspec.json.decode(path.read_bytes(), type=ModelReference)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise InputError(f"not a valid reference to a model: {error}", path, hint="run the stage that wrote it again") from error


def _download(reference: ModelReference, target: Path) -> None:
    store, _, digest = reference.uri.rpartition("/models/")
    try:
        open_store(store).download(f"models/{digest}", target)
    except MissingKeyError as error:
        raise ModelError(
            f"the model {reference.uri} is no longer in the store",
            "the store's lifecycle rule must keep models longer than TUTORLOOP_CACHE_DAYS; lower that, and everything runs again",
        ) from error
    found = digest_of(target)
    if found != reference.digest:
        raise ModelError(
            f"the model {reference.uri} is damaged: its digest is {found}",
            "delete it in the store with its .complete, and run the stage that wrote it again without the cache",
        )


def _fresh(store: Store, key: str) -> bool:
    try:
        return time.time() - float(store.read(key)) < FRESH_S
    except (MissingKeyError, ValueError):
        return False


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _smallest() -> float:
    text = os.environ.get(SIZE_VARIABLE) or str(FROM_MB)
    try:
        return float(text) * 1e6
    except ValueError as error:
        raise ParameterError(SIZE_VARIABLE, text, "a number of megabytes") from error


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let other tasks on the same volume wait rather than fetch the same model."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
