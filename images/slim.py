"""Take out of a virtual environment what no task reads, in the build stage of an image.

Whatever imports has to go on importing: what is left out here is only for those who compile against a package, who test it or who look
at it with a debugger. The sampler's image does not use this: vLLM and its kernels are compiled against torch while they run.

    python slim.py VENV
"""

import shutil
import struct
import sys
from pathlib import Path

UNUSED = {
    "torch/test": "torch's own tests, in C++",
    "torch/bin/*": "more of them, and protoc",
    "torch/include": "headers; there is no compiler",
    "torch/share": "for CMake",
    "pyarrow/include": "headers",
    "pyarrow/src": "sources",
    "pyarrow/*.pyx": "sources",
    "pyarrow/*.pxi": "sources",
    "pyarrow/libarrow_python*.so": "a copy that a linker would ask for",
    "pyarrow/libarrow_python*.so.*.*": "a copy with the whole version in its name",
    "pyarrow/*_cpp_tests*": "its own tests",
    "pyarrow/*flight*": "RPC: nothing else in the package needs it",
    "pyarrow/*s3*": "data sets that are on S3 come through our own store; pyarrow.fs does without, as it does where S3 was not built",
    "Crypto/SelfTest": "pycryptodome's own tests",
    "sympy/**/benchmarks": "its own measurements",
}
"""Globs below site-packages, and why they go."""

KEPT = {
    "torch/bin/torch_shm_manager": "processes that share tensors start it",
}

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SEGMENT = struct.Struct("<IIQQQQQQ")
SECTION = struct.Struct("<IIQQQQIIQQ")
NOBITS = 8
ALLOCATED = 2


def remove(site: Path) -> None:
    """Remove what is unused.

    Args:
        site: The folder site-packages.
    """
    for pattern in UNUSED:
        for path in sorted(site.glob(pattern)):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.relative_to(site).as_posix() not in KEPT:
                path.unlink()


def without_symbols(content: bytes) -> bytes:
    """A shared library without what is only there for linkers and debuggers.

    Loading reads what the program headers name. Behind that lie the symbols of a debugger and the list of sections; they are cut off, and
    not one byte of the rest moves: `strip`, which no base image has, lays a file out anew, and some libraries do not survive that.

    Args:
        content: Of a file.

    Returns:
        The same where this is no 64-bit ELF file, or where something else lies at its end.
    """
    if content[:6] != b"\x7fELF\x02\x01":
        return content
    fields = list(HEADER.unpack_from(content))
    segments_at, sections_at, segments, sections = fields[5], fields[6], fields[10], fields[12]
    loaded = segments_at + segments * SEGMENT.size
    for index in range(segments):
        _, _, offset, _, _, size, _, _ = SEGMENT.unpack_from(content, segments_at + index * SEGMENT.size)
        loaded = max(loaded, offset + size)
    end = sections_at + sections * SECTION.size
    for index in range(sections):
        _, kind, flags, _, offset, size, *_ = SECTION.unpack_from(content, sections_at + index * SECTION.size)
        if kind != NOBITS:
            end = max(end, offset + size)
            if flags & ALLOCATED and offset + size > loaded:
                return content
    if end != len(content):
        return content
    fields[6], fields[12], fields[13] = 0, 0, 0
    return HEADER.pack(*fields) + content[HEADER.size : loaded]


def main(venv: Path) -> None:
    """Do both.

    Args:
        venv: A virtual environment.
    """
    (site,) = venv.glob("lib/python3*/site-packages")
    remove(site)
    # With CUDA, kernels are compiled and linked while they run; whether they need the symbols could not be tried.
    if (site / "nvidia").exists():
        return
    for path in sorted(site.rglob("*.so*")):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            shorter = without_symbols(content)
            if len(shorter) < len(content):
                path.write_bytes(shorter)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
