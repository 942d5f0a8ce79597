"""What a method is: everything that the commands need to know of it, as one entry of the registry in ``pipelines/methods``."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.errors import ParameterError
from components.core.options import Options
from components.student.options import TrainingOptions
from components.teacher.options import TeacherOptions

if TYPE_CHECKING:
    from pipelines.forecast.estimate import Estimator
    from pipelines.forecast.ranges import Forecast, Progress
    from pipelines.parameters.profile import RunOptions
    from pipelines.parts.task_settings import TaskSettings

Sections = Mapping[str, Any]
"""Section to its checked options."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """One method of teaching: an entry of the registry, and a folder with its modules ``pipeline`` (``build``), ``estimate``
    (``ESTIMATOR``) and, where it asks a teacher, ``dry_run`` (``dry_run``), which are imported when they are needed.

    Attributes:
        name: As in a profile's ``method``; also the folder below ``pipelines/methods`` and, with dashes, the pipeline in Kubeflow.
        title: For people.
        folder: Folder of the method; ``profiles`` in it holds its profiles.
        sections: Section of a profile to the options class that checks it; each becomes one pipeline parameter.
        shape: Options at the top level of a profile that say what the graph looks like.
        shards: Those of ``shape`` that are a number of parallel tasks: pipeline parameters, where the others are compiled in.
        cards: Names of the cards of its report (``components/report/templates/cards``), in their order.
        packages: Compiled packages that are kept in Git, by file name, and the profiles that they are of.
        forecasts: Whether there is a module ``dry_run``.
        asked: Sections of the teachers that a run with these sections may ask: those that nobody asks are not looked for.
        warnings: What a person should know about a run before its work, though it is no error.
    """

    name: str
    title: str
    folder: Path
    sections: Mapping[str, type[Options]]
    shape: type[Options]
    shards: tuple[str, ...] = ()
    cards: tuple[str, ...]
    packages: Mapping[str, str]
    forecasts: bool = False
    asked: Callable[[Sections], list[str]] = lambda sections: []
    warnings: Callable[[Sections], list[str]] = lambda sections: []

    @property
    def pipeline(self) -> str:
        """Name of its pipelines in Kubeflow, in metrics and in labels, where a profile gives none."""
        return self.name.replace("_", "-")

    @property
    def profiles(self) -> dict[str, Path]:
        """Name to file of the profiles that come with it."""
        return {path.stem: path for path in sorted((self.folder / "profiles").glob("*.yaml"))}

    @property
    def trainings(self) -> dict[str, type[TrainingOptions]]:
        """The sections of stages that train, which several nodes may do."""
        return {name: kind for name, kind in self.sections.items() if issubclass(kind, TrainingOptions)}

    @property
    def teachers(self) -> list[str]:
        """The sections that describe an endpoint. What a profile leaves out of the second is that of the first."""
        return [name for name, kind in self.sections.items() if issubclass(kind, TeacherOptions)]

    def build(self, shape: Options, settings: TaskSettings) -> Any:
        """The pipeline, ready for the KFP compiler.

        Args:
            shape: Checked options of the class ``shape``.
            settings: Settings of its tasks.
        """
        return self._module("pipeline").build(shape, settings)

    @property
    def estimator(self) -> Estimator[Any]:
        """How it counts what a run asks for."""
        found: Estimator[Any] = self._module("estimate").ESTIMATOR
        return found

    def dry_run(self, run: RunOptions, responses: str, count: int, progress: Progress | None = None) -> Forecast:
        """Take a small real sample of a run's requests to the teacher, and say what the run takes.

        Args:
            run: Checked options.
            responses: Address of the response store that the run will use.
            count: Seeds of each kind in the sample.
            progress: Called with the numbers of units that are done and wanted.

        Raises:
            ParameterError: The method asks no teacher.
            BudgetError: The limits do not allow a sample.
            TeacherError: The teacher failed, or refuses requests of the form that the options give them.
            InputError: The seeds cannot be read.
        """
        if not self.forecasts:
            raise ParameterError("--dry-run", self.name, "a profile whose method asks a teacher")
        found: Forecast = self._module("dry_run").dry_run(run, responses, count, progress)
        return found

    def _module(self, name: str) -> Any:
        return importlib.import_module(f"pipelines.methods.{self.name}.{name}")
