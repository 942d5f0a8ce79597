"""What the run shows, in words: improvement, whether it can be chance, and preference tuning against its matched control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from components.core.ledger.reader import Ledger, ModelSummary, is_dev, steps
from components.core.records import Score
from components.report.rounds import rounds_left_out
from components.report.summary import Verdict, contamination_counts, control_differences, growth, main_benchmark
from components.report.wording import gain_interval, integer, interval, listing, percent, points
from components.stats.differences import Difference


def judge_run(ledger: Ledger, decision: Mapping[str, Any] | None) -> Verdict:
    """Say what the run shows.

    Args:
        ledger: Ledger of the run.
        decision: The promotion decision as JSON; None when there is none.

    Returns:
        A headline and the sentences that belong under it, the most important first.
    """
    models = ledger.models
    key = main_benchmark(models)
    changes = growth(models)
    main = next((change for change in changes if change.benchmark == key), None)
    if main is None or key is None:
        headline, tone, sentences = _unmeasured(models, key)
    else:
        headline, tone = _headline(main)
        sentences = [_growth_sentence(main, models, key), *_elsewhere(changes, key), *_control_sentences(models, key)]
    sentences += [round_.sentence for round_ in rounds_left_out(models)]
    sentences += _contamination_sentence(ledger)
    if decision is not None:
        sentences.append(f"{'Promoted' if decision.get('promoted') else 'Not promoted'}: {decision.get('reason', '')}".rstrip(": "))
    return Verdict(headline=headline, tone=tone, sentences=sentences)


def of_unfinished(verdict: Verdict, reason: str) -> Verdict:
    """What a run shows that did not come to its end.

    Args:
        verdict: What its tasks show until then.
        reason: Why it ended.
    """
    scope = "The page shows what its tasks did until then, and what they cost. Tasks that it took over from earlier runs are not shown."
    return Verdict(headline="The run did not finish.", tone="bad", sentences=[reason, scope, verdict.headline, *verdict.sentences])


def control_reading(change: Difference) -> str:
    """One comparison of a preference arm with its control, in a few words for a table."""
    if change.low > 0:
        return "preference tuning is ahead"
    if change.high < 0:
        return "the control is ahead"
    return "cannot be told apart"


def _unmeasured(models: Sequence[ModelSummary], key: str | None) -> tuple[str, str, list[str]]:
    if not models or key is None:
        return "No model was evaluated in this run.", "neutral", []
    score = next(model.benchmarks[key] for model in models if key in model.benchmarks)
    text = f"{_solved(score)}. No earlier model of the loop was measured on the same problems: this says nothing about growth."
    return f"{score.model} solves {percent(score.pass_at_1)} of {key}.", "neutral", [text]


def _headline(change: Difference) -> tuple[str, str]:
    before, after = percent(change.second_accuracy), percent(change.first_accuracy)
    if change.low > 0:
        return f"The student improved from {before} to {after}.", "good"
    if change.high < 0:
        return f"The student got worse: {before} before, {after} after.", "bad"
    if change.gain > 0:
        return f"From {before} to {after}: a gain that could be chance.", "neutral"
    return f"The student did not improve: {before} before, {after} after.", "neutral"


def _solved(score: Score) -> str:
    kind = "development" if is_dev(score.benchmark) else "held-out"
    right = integer(score.pass_at_1 * score.n)
    return (
        f"{score.model} solves {right} of {integer(score.n)} {kind} problems of {score.benchmark} "
        f"({percent(score.pass_at_1)}, 95{chr(160)}% interval {interval(score.low, score.high)})"
    )


def _growth_sentence(change: Difference, models: Sequence[ModelSummary], key: str) -> str:
    measured = {model.name: model for model in steps(models) if key in model.benchmarks}
    first, last = measured[change.second], measured[change.first]
    start = f"the base model {first.name}" if first.role == "base" else first.name
    text = f"{_solved(last.benchmarks[key])}; {start} solved {integer(change.second_accuracy * first.benchmarks[key].n)}. "
    text += f"That is {points(change.gain)} points, with a 95{chr(160)}% interval of {gain_interval(change.low, change.high)}"
    text += ": more than chance explains." if change.clear else ", which includes zero: chance alone could explain it."
    taken = [
        (model.benchmarks[key].pass_at_1 - measured[model.parent].benchmarks[key].pass_at_1, model.parent, model.name)
        for model in measured.values()
        if model.parent in measured and not model.same_as
    ]
    if len(taken) > 1:
        largest = max(taken)
        if largest[0] > 0:
            text += f" The largest step was {largest[1]} to {largest[2]} ({points(largest[0])})."
    return text


def _elsewhere(changes: Sequence[Difference], key: str) -> list[str]:
    others = [change for change in changes if change.benchmark != key and not is_dev(change.benchmark)]
    if not others:
        return []
    better = [f"{change.benchmark} ({points(change.gain)})" for change in others if change.low > 0]
    worse = [f"{change.benchmark} ({points(change.gain)})" for change in others if change.high < 0]
    open_ = [f"{change.benchmark} ({points(change.gain)})" for change in others if not change.clear]
    parts = [f"clearly better on {listing(better)}"] if better else []
    parts += [f"clearly worse on {listing(worse)}"] if worse else []
    parts += [f"no clear change on {listing(open_)}"] if open_ else []
    return [f"On the other test sets: {'; '.join(parts)}."]


def _control_sentences(models: Sequence[ModelSummary], key: str) -> list[str]:
    tuned = [model for model in models if model.role == "preference" and not model.same_as]
    if not tuned:
        return []
    found = [change for change in control_differences(models) if change.benchmark == key]
    if not found:
        return ["No matched control was trained: whether preference tuning beats more supervised training remains open."]
    last = found[-1]
    figures = (
        f"{last.first} solves {percent(last.first_accuracy)}, its matched control {percent(last.second_accuracy)} "
        f"({points(last.gain)} points, interval {gain_interval(last.low, last.high)})"
    )
    if last.low > 0:
        text = f"Preference tuning beat its matched control: {figures}. The control saw the same right answers for as many steps."
    elif last.high < 0:
        text = f"Preference tuning did worse than its matched control: {figures}. More supervised training would have served better."
    else:
        text = (
            f"Preference tuning did not clearly beat its matched control: {figures}. The gain of the practice rounds can be "
            "explained by continued supervised training alone."
        )
    earlier = [
        f"{change.first} against its control {points(change.gain)} ({gain_interval(change.low, change.high)}; {control_reading(change)})"
        for change in found[:-1]
    ]
    if earlier:
        numbers = {model.name: model.round for model in models}
        rounds = sorted({numbers[change.first] for change in found[:-1]})
        text += f" Earlier, in round {listing([str(number) for number in rounds])}: {'; '.join(earlier)}."
    return [text]


def _contamination_sentence(ledger: Ledger) -> list[str]:
    figures = contamination_counts(ledger)
    if not figures:
        return []
    removed = sum(count for name, count in figures.items() if name.startswith("dropped_contaminated"))
    checked = f"the contamination gate checked {integer(figures['rows_in'])} training rows against the evaluation problems"
    if removed:
        return [f"Before training, {checked} and removed {integer(removed)} that were too close."]
    return [f"Before training, {checked} and removed none."]
