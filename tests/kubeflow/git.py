"""Folders of schedules and packages as Git has them, and syncs with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner, Result

from pipelines.cli.main import cli
from pipelines.kubeflow.packages import Package, read_package
from pipelines.packages.compile import COMPILED
from pipelines.parameters.profile import load, run_arguments


def inputs() -> dict[str, Any]:
    """The inputs of the real pipeline that a released package has: what a person chooses, each with a default."""
    package = next(yaml.load_all((COMPILED / "orca_math.yaml").read_text(), Loader=yaml.CSafeLoader))
    chosen = run_arguments(load("tiny"))
    found = {name: item for name, item in package["root"]["inputDefinitions"]["parameters"].items() if name in chosen}
    return {"parameters": {name: item | {"defaultValue": chosen[name], "isOptional": True} for name, item in found.items()}}


INPUTS = inputs()


class Git:
    """Two folders.

    Args:
        root: Where to put them.
    """

    def __init__(self, root: Path) -> None:
        self.schedules = root / "schedules"
        self.packages = root / "packages"
        for folder in (self.schedules, self.packages):
            folder.mkdir(parents=True)

    def schedule(self, file: str = "weekly", **changes: Any) -> Path:
        """Declare a schedule, or change it; called as its file is unless it is given another name."""
        values = {
            "name": file,
            "description": "Weekly retraining",
            "pipeline": "orca-math-tiny",
            "profile": "tiny",
            "parameters": {"seed": 1, "sft.learning_rate": 1.0e-3},
            "cron": "0 0 3 * * 1",
            "service_account": "tutorloop-run",
        }
        path = self.schedules / f"{file}.yaml"
        path.write_text(json.dumps(values | changes))
        return path

    def package(self, name: str = "orca-math-tiny", salt: str = "", **changes: Any) -> Package:
        """Put a package there: a small one with the inputs of the real pipeline."""
        spec = {
            "pipelineInfo": {"name": "orca-math", "description": f"A pipeline {salt}".rstrip()},
            "root": {"inputDefinitions": INPUTS, "dag": {"tasks": {}}},
            "schemaVersion": "2.1.0",
            "sdkVersion": "kfp-2.17.0",
        }
        path = self.packages / f"{name}.yaml"
        path.write_text(yaml.safe_dump(spec | changes))
        return read_package(path)

    def arguments(self, url: str, *options: str) -> list[str]:
        """Arguments of the ``tutorloop`` command."""
        folders = ["--schedules", str(self.schedules), "--packages", str(self.packages)]
        patience = [] if "--patience" in options else ["--patience", "120"]
        return ["sync", *folders, "--host", url, *patience, *options]

    def sync(self, url: str, *options: str, code: int = 0) -> Result:
        """Sync in this process, and expect an exit code."""
        done = CliRunner().invoke(cli, self.arguments(url, *options))
        assert done.exit_code == code, f"{done.output}\n{done.exception!r}"
        return done
