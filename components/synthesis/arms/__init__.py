"""The arms, in the order in which their problems are written out: CONTRIBUTING.md, "Adding a synthesis arm"."""

from __future__ import annotations

from components.synthesis.arms.arm import Arm
from components.synthesis.arms.ask_me_anything import AskMeAnything
from components.synthesis.arms.suggester_editor import SuggesterEditor

ARMS: tuple[Arm, ...] = (
    AskMeAnything(),
    SuggesterEditor(),
)
