"""Symbolic names of the images that tasks run in; run, submit and release put content-addressed tags in their place."""

AGENTS = "tutorloop/agents-python:symbolic"
"""Everything that talks to the teacher or handles rows: no torch."""

TRAINER = "tutorloop/trainer-python:symbolic"
"""torch, transformers, TRL, PEFT: training, sampling and evaluation."""
