"""What a run of a profile will ask of teacher, GPUs and stores, before any of it is spent.

Counts follow from the profile, by the formulas of its method. What no profile can say (how long replies are, how fast the GPUs) is an
assumption with a name: the defaults are figures of the method's article where it states them, else our choice, and a small run of the
same teacher, prompts and seeds measures those about the teacher (:meth:`Estimator.measured`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta

from components.core.options import Options, parse_options
from components.core.records import StageRecord, Usage
from components.teacher.options import TeacherOptions

if TYPE_CHECKING:
    from pipelines.parameters.profile import RunOptions

Number = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]


class Tokens(Options, frozen=True, kw_only=True):
    """Tokens of one request, on the average."""

    prompt: Number
    reply: Number


class Assumptions(Options, frozen=True, kw_only=True):
    """What no profile says, whatever the method.

    Attributes:
        seeds: Seed problems; Orca-Math's number.
        problem_tokens: Tokens of a problem with its chat format, in the student's tokens (our choice).
        response_tokens: Tokens of a solution or response (our choice; what two hundred words come to).
        benchmark_problems: Problems that every model is measured on; those of GSM8K's test split and a development split.
        parameters: Number of the student's parameters; Mistral-7B's.
        gpu_teraflops: Peak of one GPU in the precision that is trained in; an A100's bfloat16.
        utilisation: Share of that which training reaches (our choice).
        tokens_per_second: That one GPU generates over all sequences; a 7B model with vLLM (our choice).
        bytes_per_reply: Size of a stored reply, its request and a margin (our choice).
    """

    seeds: Number = 36_217
    problem_tokens: Number = 80
    response_tokens: Number = 250
    benchmark_problems: Number = 2_000
    parameters: Number = 7.24e9
    gpu_teraflops: Number = 312
    utilisation: Share = 0.35
    tokens_per_second: Number = 2_500
    bytes_per_reply: Number = 3_000

    @property
    def row_tokens(self) -> float:
        """Tokens of a training row: a problem with its response."""
        return self.problem_tokens + self.response_tokens

    def training_hours(self, tokens: float, *, scored: bool = False) -> float:
        """GPU hours of a training.

        Training takes 6 floating-point operations for each parameter and token, 8 with activations recomputed, and 2 for each token
        that is only scored (Kaplan et al., arXiv 2001.08361).

        Args:
            tokens: That are learned from.
            scored: Whether a reference model scores each of them as well.
        """
        operations = (8 if self.parameters >= 1e9 else 6) + 2 * scored
        return tokens * self.parameters * operations / (self.gpu_teraflops * 1e12 * self.utilisation * 3_600)

    def generation_hours(self, responses: float) -> float:
        """GPU hours for a number of responses."""
        return responses * self.response_tokens / self.tokens_per_second / 3_600

    def gigabytes(self, *, replies: float, models: float) -> dict[str, float]:
        """Size of each store.

        Args:
            replies: Replies of the teacher.
            models: Models of a run, in 16 bits.
        """
        model = self.parameters * 2 / 1e9
        return {
            "responses": replies * self.bytes_per_reply / 1e9,
            "artifacts": models * model,
            # Weights and AdamW's two moments in 32 bits, of one training at a time.
            "checkpoints": self.parameters * 12 / 1e9,
            "models": model,
        }


AssumptionsT = TypeVar("AssumptionsT", bound=Assumptions)


@dataclass(frozen=True)
class Asked:
    """Of one teacher stage, over the whole run."""

    requests: float
    prompt_tokens: float
    reply_tokens: float
    usd: float


@dataclass(frozen=True)
class Estimate:
    """What a run takes.

    Attributes:
        problems: Training problems, before any filter drops some.
        teacher: By stage.
        gpu_hours: By stage; hours of one GPU.
        gigabytes: By store.
    """

    problems: float
    teacher: dict[str, Asked]
    gpu_hours: dict[str, float]
    gigabytes: dict[str, float]

    @property
    def usd(self) -> float:
        """Price of all requests."""
        return sum(asked.usd for asked in self.teacher.values())


def at_most(limit: int, there: float) -> float:
    """How many of those there are, where a limit of 0 means all of them."""
    return min(limit, there) if limit else there


def asked(requests: float, tokens: Tokens, teacher: TeacherOptions) -> Asked:
    """What a number of requests of average length comes to."""
    prompt, reply = requests * tokens.prompt, requests * tokens.reply
    return Asked(requests, prompt, reply, teacher.usd(prompt, reply))


def text(found: Estimate, assumed: Assumptions) -> str:
    """A table for people."""
    lines = [f"{found.problems:,.0f} training problems of {assumed.seeds:,.0f} seeds", ""]
    lines.append(f"{'teacher':<18}{'requests':>12}{'prompt tokens':>16}{'reply tokens':>16}{'dollars':>12}")
    for stage, asked in found.teacher.items():
        lines.append(f"{stage:<18}{asked.requests:>12,.0f}{asked.prompt_tokens:>16,.0f}{asked.reply_tokens:>16,.0f}{asked.usd:>12,.2f}")
    lines += [f"{'all':<18}{'':>44}{found.usd:>12,.2f}", ""]
    lines.append("GPU hours         " + ", ".join(f"{stage} {hours:,.1f}" for stage, hours in found.gpu_hours.items()))
    lines.append("gigabytes         " + ", ".join(f"{store} {size:,.1f}" for store, size in found.gigabytes.items()))
    return "\n".join(lines)


@dataclass(frozen=True)
class Estimator(Generic[AssumptionsT]):
    """How a method counts what a run asks for.

    Attributes:
        assumptions: What it has to assume.
        estimate: The count.
        requests: Stage to the assumption about the tokens of its requests.
    """

    assumptions: type[AssumptionsT]
    estimate: Callable[[RunOptions, AssumptionsT], Estimate]
    requests: Mapping[str, str]

    def assume(self, values: Mapping[str, Any] = MappingProxyType({})) -> AssumptionsT:
        """Check assumptions.

        Args:
            values: What differs from the defaults; of an assumption with several values, those that are given.

        Raises:
            ParameterError: A name or value is wrong.
        """
        defaults = msgspec.to_builtins(self.assumptions())
        merged = {
            name: {**defaults[name], **value} if isinstance(value, dict) else value for name, value in values.items() if name in defaults
        }
        return parse_options(self.assumptions, {**values, **merged}, "assume")

    def measured(self, ledger: Iterable[StageRecord]) -> dict[str, Any]:
        """Tokens of a request by stage, as a finished run measured them: values to assume.

        Args:
            ledger: What every task of the run did.
        """
        usage: dict[str, Usage] = defaultdict(Usage)
        for row in ledger:
            if row.usage:
                usage[row.stage] += row.usage
        return {
            name: {"prompt": found.prompt_tokens / found.requests, "reply": found.completion_tokens / found.requests}
            for stage, name in self.requests.items()
            if (found := usage[stage]).requests
        }
