"""Programs on the PATH that note how they are called, for tests of command lines: what they say is decided by the test."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_SCRIPT = """#!{python}
import json, os, pathlib, sys
folder = pathlib.Path({folder!r})
read = sys.stdin.read() if "-" in sys.argv else ""
with open(folder / "calls.jsonl", "a") as file:
    file.write(json.dumps({{"program": {name!r}, "arguments": sys.argv[1:], "read": read}}) + "\\n")
line = " ".join(sys.argv[1:])
for rule in json.loads((folder / "rules.json").read_text()):
    if rule["contains"] in line:
        sys.stdout.write(rule["out"])
        sys.stderr.write(rule["err"])
        sys.exit(rule["status"])
"""


@dataclass
class Programs:
    """The programs of a test.

    Attributes:
        folder: Where they are.
    """

    folder: Path

    def answers(self, contains: str, *, out: str = "", err: str = "", status: int = 0) -> None:
        """Decide what a call says whose arguments contain a text; the first rule that fits counts."""
        rules = json.loads((self.folder / "rules.json").read_text())
        rules.append({"contains": contains, "out": out, "err": err, "status": status})
        (self.folder / "rules.json").write_text(json.dumps(rules))

    def calls(self) -> list[str]:
        """Command lines so far."""
        return [" ".join([call["program"], *call["arguments"]]) for call in self._noted()]

    def read(self) -> list[str]:
        """What was written to each call's standard input."""
        return [call["read"] for call in self._noted()]

    def _noted(self) -> list[dict[str, Any]]:
        path = self.folder / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> Programs:
    """Put programs before all others of these names."""
    folder.mkdir()
    (folder / "rules.json").write_text("[]")
    for name in names:
        path = folder / name
        path.write_text(_SCRIPT.format(python=sys.executable, folder=str(folder), name=name))
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return Programs(folder)


def script(path: Path, text: str) -> Path:
    """A program of the test's own."""
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)
    return path
