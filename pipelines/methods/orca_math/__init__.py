"""Orca-Math (arXiv 2402.14830): agents write problems, the teacher solves them, the student learns, practises and is marked."""

from __future__ import annotations

from pathlib import Path

from components.contamination.options import ContaminationOptions
from components.evaluation.options import EvaluationOptions
from components.judging.options import JudgingOptions
from components.preference_tuning.options import TuningOptions
from components.preferences.options import PreferenceOptions
from components.promotion.options import PromotionOptions
from components.sampling.options import SamplingOptions
from components.seeds.options import SeedsOptions
from components.sft.options import SFTOptions
from components.solving.options import SolvingOptions
from components.student.options import StudentOptions
from components.synthesis.options import SynthesisOptions
from components.teacher.options import TeacherOptions
from pipelines.methods.method import Method
from pipelines.methods.orca_math.before import asked, warnings
from pipelines.methods.orca_math.shape import OrcaMathShape

METHOD = Method(
    name="orca_math",
    title="Orca-Math",
    folder=Path(__file__).parent,
    sections={
        "seeds": SeedsOptions,
        "benchmarks": SeedsOptions,
        "teacher": TeacherOptions,
        "judge_teacher": TeacherOptions,
        "synthesis": SynthesisOptions,
        "solving": SolvingOptions,
        "contamination": ContaminationOptions,
        "student": StudentOptions,
        "sft": SFTOptions,
        "sampling": SamplingOptions,
        "judging": JudgingOptions,
        "preferences": PreferenceOptions,
        "preference_tuning": TuningOptions,
        "evaluation": EvaluationOptions,
        "promotion": PromotionOptions,
    },
    shape=OrcaMathShape,
    shards=("data_shards", "sampling_shards"),
    cards=(
        *("changed", "accuracy", "models", "control", "left-out", "sampling"),
        *("slices", "rows", "contamination", "problems", "practice", "pairs"),
        *("training", "answers", "teacher", "time", "promotion", "details"),
    ),
    packages={"orca_math.yaml": "tiny", "orca_math_7b.yaml": "orca_math_7b"},
    forecasts=True,
    asked=asked,
    warnings=warnings,
)
