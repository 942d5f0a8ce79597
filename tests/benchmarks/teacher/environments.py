"""A virtual environment for each rival, from the requirement files beside this module."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
FOLDER = ROOT / "build" / "teacher-race"


@dataclass(frozen=True)
class Client:
    """One contender.

    Attributes:
        name: In ``--only`` and in the results.
        title: In the tables.
        module: Its script below ``clients``.
        environment: Name of its requirement file; empty for the environment that runs the race.
        packages: Whose versions go into the results.
        arguments: For the script.
        remembers: Whether it keeps replies from one run to the next.
    """

    name: str
    title: str
    module: str
    environment: str
    packages: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    remembers: bool = False

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return FOLDER / "environments" / self.environment / "bin" / "python" if self.environment else Path(sys.executable)

    @property
    def command(self) -> list[str]:
        """What starts it."""
        return [str(self.python), "-m", f"tests.benchmarks.teacher.clients.{self.module}", *self.arguments]


CLIENTS = (
    Client("tutorloop", "TutorLoop", "tutorloop", "", ("aiohttp", "openai"), remembers=True),
    Client("bare", "bare aiohttp pool", "bare_pool", "aiohttp", ("aiohttp",)),
    Client("row-loop", "loop that skips rows by number", "row_loop", "aiohttp", ("aiohttp",), remembers=True),
    Client("openai-aiohttp", "openai-python, aiohttp", "openai_package", "openai", ("openai", "aiohttp"), ("aiohttp",)),
    Client("openai", "openai-python", "openai_package", "openai", ("openai", "httpx2")),
    Client("curator", "curator", "curator", "curator", ("bespokelabs-curator", "litellm", "aiohttp"), remembers=True),
    Client("distilabel-llm", "distilabel, OpenAILLM", "distilabel", "distilabel", ("distilabel", "openai"), ("llm",)),
    Client("distilabel", "distilabel, Pipeline", "distilabel", "distilabel", ("distilabel", "openai"), remembers=True),
)


def prepare(client: Client) -> None:
    """Make the client's environment unless it is there already, as its requirement file has it.

    Raises:
        subprocess.CalledProcessError: It cannot be made.
    """
    if not client.environment:
        return
    requirements = HERE / "requirements" / f"{client.environment}.txt"
    folder = client.python.parents[1]
    mark = folder / "complete"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if mark.is_file() and mark.read_text() == digest:
        return
    print(f"making the environment {client.environment}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    # The files are complete: what their projects declare is in them, and what they forget (distilabel: requests).
    subprocess.run([str(client.python), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(requirements)], check=True)
    mark.write_text(digest)


def versions(client: Client) -> dict[str, str]:
    """Versions of the packages that matter."""
    script = "import importlib.metadata, json, sys; print(json.dumps({n: importlib.metadata.version(n) for n in sys.argv[1:]}))"
    output = subprocess.run([str(client.python), "-c", script, *client.packages], check=True, capture_output=True, text=True).stdout
    found: dict[str, str] = json.loads(output)
    return found
