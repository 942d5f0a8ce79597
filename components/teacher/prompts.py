"""The prompts: our own, one Markdown file each, versioned by their content.

The first line of every prompt is ``Task: <name>``; what a request is about follows in the user message, as labelled sections.
A teacher of any kind can so be told what is wanted, and ours can recognise it without a model.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "prompts"


@dataclass(frozen=True)
class Prompt:
    """A system message.

    Attributes:
        name: Name of its file.
        text: The message.
        version: ``name@<8 hex digits of SHA-256>``: changes whenever the text does.
    """

    name: str
    text: str
    version: str

    def messages(self, user: str) -> list[dict[str, str]]:
        """The messages of a chat that this prompt opens."""
        return [{"role": "system", "content": self.text}, {"role": "user", "content": user}]


@cache
def load_prompt(name: str) -> Prompt:
    """Read ``prompts/<name>.md``.

    Args:
        name: ``ask_me_anything``, ``suggest``, ``edit``, ``solve``, ``solvable``, ``judge`` or ``explain``.
    """
    text = (FOLDER / f"{name}.md").read_text(encoding="utf-8").strip()
    return Prompt(name, text, f"{name}@{hashlib.sha256(text.encode()).hexdigest()[:8]}")


def sections(**parts: str) -> str:
    """A user message of labelled sections: ``reference_answer="4"`` becomes ``Reference answer: 4``.

    A text of several lines starts on the line after its label.
    """
    labels = {"students_answer": "Student's answer"}
    lines = []
    for name, text in parts.items():
        label = labels.get(name, name.replace("_", " ").capitalize())
        body = text.strip()
        lines.append(f"{label}:\n{body}" if "\n" in body else f"{label}: {body}")
    return "\n\n".join(lines)
