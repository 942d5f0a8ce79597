"""Symbolic names of the images that tasks run in; run and compile put content-addressed names in their place."""

AGENTS = "tutorloop/agents-python:symbolic"
"""Everything that talks to the teacher or handles rows: no torch."""

TRAINER = "tutorloop/trainer-python:symbolic"
"""torch, transformers, TRL, PEFT: training."""

GENERATOR = "tutorloop/generator-python:symbolic"
"""Sampling and evaluation: the trainer's image with the transformers engine, the sampler's with vLLM."""

SYNC = "tutorloop/sync-python:symbolic"
"""What speaks to Kubeflow, Kubernetes and the stores and needs no model: checks before a run, its end, schedules."""
