"""A really tiny student and rows for the tests of the stages that handle it."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from components.core.records import Demonstration, LabelledResponse, PreferencePair, Problem, problem_id, row_id
from components.core.stage import StageRun
from components.student.models.hardware import quiet
from components.student.options import TinyOptions
from components.word_problems.problems import WordProblem, generate_many, solution_text

quiet()

SMALL = TinyOptions(vocabulary=400, hidden=32, layers=1, heads=2, intermediate=64, positions=160, rows=160, batch_size=16)


@dataclass
class Artifact:
    """What a KFP output looks like to a stage."""

    path: str
    metadata: dict[str, Any] = field(default_factory=dict)


class KilledStage(StageRun):
    """A stage whose process is killed at the end of its seventh step."""

    def progress(self, done: int, total: int, unit: str = "rows", force: bool = False) -> None:
        if unit == "steps" and done == 7:
            os.kill(os.getpid(), signal.SIGKILL)


@cache
def word_problems(count: int = 60, split: str = "train") -> list[WordProblem]:
    """The same problems for every test."""
    return generate_many(11, count, split=split, max_steps=2)


def demonstrations(count: int = 60) -> list[Demonstration]:
    """Rows of an SFT set."""
    rows = []
    for problem in word_problems(count):
        solution = solution_text(problem)
        identifier = problem_id(problem.question)
        rows.append(
            Demonstration(
                id=row_id(identifier, solution),
                problem_id=identifier,
                source="test",
                question=problem.question,
                solution=solution,
                answer=str(problem.answer),
                steps=len(problem.steps),
                licence="Apache-2.0",
                method="seed",
                maker="test",
            )
        )
    return rows


def benchmark(count: int = 12, source: str = "quiz", split: str = "test") -> list[Problem]:
    """Benchmark rows."""
    return [
        Problem(
            id=problem_id(problem.question),
            source=source,
            split=split,
            question=problem.question,
            answer=str(problem.answer),
            steps=len(problem.steps),
            licence="Apache-2.0",
        )
        for problem in generate_many(5, count, split=split, max_steps=2)
    ]


def pairs(count: int = 40) -> list[PreferencePair]:
    """Preference pairs: the right solution and a guess."""
    rows = []
    for row in demonstrations(count):
        wrong = f"I guess it is {int(row.answer) + 1}. #### {int(row.answer) + 1}"
        rows.append(
            PreferencePair(
                id=row_id(row.problem_id, "pair"),
                problem_id=row.problem_id,
                question=row.question,
                chosen=row.solution,
                rejected=wrong,
                chosen_from="teacher",
                rejected_from="student",
                chosen_id=row.id,
                rejected_id=row_id(row.problem_id, wrong),
            )
        )
    return rows


def labelled(desirable: int = 30, undesirable: int = 10) -> list[LabelledResponse]:
    """KTO rows."""
    rows = []
    for index, pair in enumerate(pairs(max(desirable, undesirable))):
        for label, text, wanted in ((True, pair.chosen, desirable), (False, pair.rejected, undesirable)):
            if index < wanted:
                rows.append(
                    LabelledResponse(
                        id=row_id(pair.id, label),
                        problem_id=pair.problem_id,
                        question=pair.question,
                        response=text,
                        label=label,
                        origin="teacher" if label else "student",
                        response_id=row_id(text),
                    )
                )
    return rows


def make_model(folder: Path, name: str = "M0") -> Path:
    """Build and save the tiny model; untrained but for a few steps."""
    import torch

    from components.student.models import tiny
    from components.student.models.load import save_student

    torch.set_num_threads(1)
    model, tokenizer, _, _ = tiny.build(SMALL, "plain", 0, (), lambda done, total: None)
    save_student(folder, model, tokenizer, name=name, base_model="tiny", chat_format="plain")
    return folder


def weights(folder: Path) -> dict[str, Any]:
    """The saved weights by name."""
    from safetensors.torch import load_file

    return dict(load_file(str(folder / "model.safetensors")))


def same_weights(left: Path, right: Path) -> bool:
    """Whether two saved models agree bit for bit."""
    a, b = weights(left), weights(right)
    return a.keys() == b.keys() and all(bool((a[name] == b[name]).all()) for name in a)
