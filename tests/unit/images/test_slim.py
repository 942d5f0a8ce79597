"""What the images leave out of their packages: the list is followed, and what is cut is loaded as before."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from tests.conftest import ROOT

(LIBRARY,) = Path(msgspec.__file__).parent.glob("_core.*.so")


@pytest.fixture(scope="module")
def slim() -> ModuleType:
    """images/slim.py, which is no package."""
    spec = importlib.util.spec_from_file_location("slim", ROOT / "images" / "slim.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def library() -> bytes:
    """A shared library of another project, with symbols, as its wheel has it."""
    return LIBRARY.read_bytes()


def with_header(slim: ModuleType, content: bytes, **changed: int) -> bytes:
    names = ("sections_at", "sections")
    fields = list(slim.HEADER.unpack_from(content))
    for name, position in zip(names, (6, 12), strict=True):
        fields[position] = changed.get(name, fields[position])
    return bytes(slim.HEADER.pack(*fields)) + content[slim.HEADER.size :]


def test_what_is_loaded_stays_in_place(slim: ModuleType, library: bytes) -> None:
    shorter = slim.without_symbols(library)
    assert 0 < len(shorter) < len(library)
    assert shorter[64:] == library[64 : len(shorter)]
    assert slim.without_symbols(shorter) == shorter


def test_a_library_works_without_its_symbols(slim: ModuleType, library: bytes, tmp_path: Path) -> None:
    (tmp_path / LIBRARY.name).write_bytes(slim.without_symbols(library))
    script = """
import importlib.util, sys
import msgspec
spec = importlib.util.spec_from_file_location("msgspec._core", sys.argv[1])
core = importlib.util.module_from_spec(spec)
spec.loader.exec_module(core)
assert core.__file__ == sys.argv[1] and core.json_decode(core.json_encode({"a": [1, 2.5]})) == {"a": [1, 2.5]}
try:
    core.json_decode(b"{")
except core.DecodeError:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / LIBRARY.name)], capture_output=True, text=True)
    assert done.stdout == "refused\n", done.stderr


def test_what_is_not_understood_is_left_alone(slim: ModuleType, library: bytes) -> None:
    with_more = library + b"an archive at the end"
    for content in (b"", b"\x7fELF", b"\x7fELF\x01\x01" + library[6:], b"#!/bin/sh\n" * 20, with_more):
        assert slim.without_symbols(content) == content
    without_list = with_header(slim, library, sections_at=0, sections=0)
    assert slim.without_symbols(without_list) == without_list


def packages(folder: Path, *files: str) -> Path:
    """A virtual environment with these files in its packages."""
    site = folder / "venv/lib/python3.11/site-packages"
    for file in files:
        (site / file).parent.mkdir(parents=True, exist_ok=True)
        (site / file).write_bytes(b"x")
    return site


def left(site: Path) -> set[str]:
    return {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}


def test_the_list_is_followed(slim: ModuleType, tmp_path: Path) -> None:
    kept = {
        "torch/bin/torch_shm_manager",
        "torch/lib/libtorch_cpu.so",
        "torch/testing/__init__.py",
        "pyarrow/libarrow_python.so.2600",
        "pyarrow/libarrow_substrait.so.2600",
        "pyarrow/_fs.cpython-311-x86_64-linux-gnu.so",
        "Crypto/Cipher/AES.py",
        "sympy/polys/rings.py",
    }
    gone = {
        "torch/bin/protoc",
        "torch/test/deep/test_api",
        "torch/include/a.h",
        "pyarrow/libarrow_python.so",
        "pyarrow/libarrow_python.so.2600.1.0",
        "pyarrow/_flight.cpython-311-x86_64-linux-gnu.so",
        "pyarrow/libarrow_s3.so.2600",
        "Crypto/SelfTest/__init__.py",
        "sympy/polys/benchmarks/bench_groebnertools.py",
    }
    site = packages(tmp_path, *kept, *gone)
    slim.main(tmp_path / "venv")
    assert left(site) == kept


@pytest.mark.parametrize("cuda", [False, True])
def test_symbols_go_only_where_nothing_is_linked_later(slim: ModuleType, library: bytes, tmp_path: Path, cuda: bool) -> None:
    site = packages(tmp_path, "torch/lib/libtorch_cpu.so", "torch/lib/libgomp.so.1", *(["nvidia/cublas/lib.so"] if cuda else []))
    for name in ("libtorch_cpu.so", "libgomp.so.1"):
        (site / "torch/lib" / name).write_bytes(library)
    (site / "torch/lib/again.so").symlink_to("libtorch_cpu.so")
    slim.main(tmp_path / "venv")
    expected = library if cuda else slim.without_symbols(library)
    assert (site / "torch/lib/libtorch_cpu.so").read_bytes() == expected
    assert (site / "torch/lib/libgomp.so.1").read_bytes() == expected
    assert (site / "torch/lib/again.so").is_symlink()
