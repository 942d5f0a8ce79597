"""Preference tuning and its control arm: same positives, same order, same number of steps."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from components.core.errors import ParameterError
from components.core.options import parse_options
from components.core.records import digest_of, write_records
from components.core.stage import StageRun
from components.core.store import open_store
from components.core.store.model_files import ModelReference, refer, reference_in
from components.preference_tuning.data import kto_weights, labelled_material, pair_material
from components.preference_tuning.options import TuningOptions
from components.preference_tuning.stage import run
from components.student.models.chat import Chat
from components.student.models.load import read_info
from components.student.models.tiny import build_tokenizer
from tests.support.kills import Killed
from tests.support.student_material import demonstrations, labelled, make_model, pairs, same_weights

ROOT = Path(__file__).parents[3]
BASICS: dict[str, Any] = {"method": "dpo", "learning_rates": [2e-3, 1e-3], "batch_size": 4, "checkpoint_seconds": 0}


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuning")
    write_records(folder / "pairs.jsonl", pairs(26))
    write_records(folder / "labelled.jsonl", labelled(20, 9))
    return make_model(folder / "M1", "M1")


@pytest.fixture(scope="module")
def chat() -> Chat:
    return Chat("plain", build_tokenizer([row.question + row.solution for row in demonstrations(40)], 400))


def tune(
    start: Path, arm: str = "preference", round_number: int = 1, name: str = "", checkpoints: str = "", first: str = "", **options: Any
) -> tuple[Path, StageRun]:
    stage = StageRun("preference_tuning", task=f"tuning {arm}")
    output = start.parent / (name or f"out-{arm}")
    run(
        str(start),
        first or str(start),
        str(start.parent / "pairs.jsonl"),
        str(start.parent / "labelled.jsonl"),
        parse_options(TuningOptions, {**BASICS, **options}, "preference_tuning"),
        stage,
        checkpoints=checkpoints or str(start.parent / "checkpoints"),
        round_number=round_number,
        arm=arm,
        seed=3,
        output=str(output),
    )
    return output, stage


@pytest.mark.parametrize(
    ("desirable", "undesirable", "given", "expected"),
    [
        (100, 100, (0, 0), (1.0, 1.0)),
        (130, 100, (0, 0), (1.0, 1.0)),
        (300, 100, (0, 0), (1.0, 2.25)),
        (50, 100, (0, 0), (2.0, 1.0)),
        (50, 100, (0, 0.03), (1.0, 0.03)),
        (50, 100, (3, 0), (3.0, 1.0)),
        (50, 0, (0, 0), (1.0, 1.0)),
    ],
)
def test_kto_weights(desirable: int, undesirable: int, given: tuple[float, float], expected: tuple[float, float]) -> None:
    weights = kto_weights(desirable, undesirable, *given)
    assert list(weights) == pytest.approx(list(expected))
    if not any(given) and undesirable:
        assert 1 <= weights[0] * desirable / (weights[1] * undesirable) <= 4 / 3 + 1e-9


def test_the_control_arm_gets_the_chosen_sides_in_the_same_order(chat: Chat) -> None:
    options = TuningOptions(method="dpo", batch_size=4, epochs=2)
    preference = pair_material(chat, pairs(26), options, preference=True, seed=3)
    control = pair_material(chat, pairs(26), options, preference=False, seed=3)
    whole = [p + c for p, c in zip(preference.columns["prompt_ids"], preference.columns["chosen_ids"], strict=True)]
    assert (preference.kind, control.kind, control.rows) == ("dpo", "sft", 26)
    assert whole == control.columns["input_ids"] and len(whole) == 52
    assert whole[:26] != whole[26:] and sorted(whole[:26]) == sorted(whole[26:])
    other = pair_material(chat, pairs(26), options, preference=True, seed=4)
    assert other.columns["chosen_ids"] != preference.columns["chosen_ids"]
    assert preference.counts["chosen_tokens"] == pytest.approx(sum(map(len, preference.columns["chosen_ids"])) / 52)


def test_the_control_arm_of_kto_gets_the_desirable_rows_as_often_as_needed(chat: Chat) -> None:
    options = TuningOptions(method="kto", batch_size=4)
    preference = labelled_material(chat, labelled(20, 9), options, method="kto", preference=True, seed=3)
    control = labelled_material(chat, labelled(20, 9), options, method="kto", preference=False, seed=3)
    columns = preference.columns
    desirable = [p + c for p, c, label in zip(columns["prompt_ids"], columns["completion_ids"], columns["label"], strict=True) if label]
    assert len(control.columns["input_ids"]) == len(columns["label"]) == 29
    assert control.columns["input_ids"][:20] == desirable
    assert control.columns["input_ids"][20:] == desirable[:9]
    assert (control.rows, preference.counts["desirable"], preference.counts["undesirable"]) == (20, 20, 9)


def test_a_cut_negative_gets_no_end_token(chat: Chat) -> None:
    [end] = chat.end_ids()
    rows = [msgspec.structs.replace(pair, rejected_cut=index % 2 == 0) for index, pair in enumerate(pairs(8))]
    columns = pair_material(chat, rows, TuningOptions(method="dpo", batch_size=8), preference=True, seed=3).columns
    assert all(ids[-1] == end for ids in columns["chosen_ids"])
    assert sum(ids[-1] == end for ids in columns["rejected_ids"]) == 4
    marked = [msgspec.structs.replace(row, cut=not row.label) for row in labelled(8, 8)]
    columns = labelled_material(chat, marked, TuningOptions(batch_size=4), method="kto", preference=True, seed=3).columns
    assert [ids[-1] == end for ids in columns["completion_ids"]] == columns["label"]


def test_kl_completions_are_the_same_batch_shifted_by_one(chat: Chat) -> None:
    columns = labelled_material(chat, labelled(20, 9), TuningOptions(batch_size=4), method="kto", preference=True, seed=3).columns
    for first in range(0, 29, 4):
        completions = columns["completion_ids"][first : first + 4]
        assert columns["KL_completion_ids"][first : first + 4] == [completions[-1], *completions[:-1]]


def test_sft_takes_each_desirable_row_once(chat: Chat) -> None:
    material = labelled_material(chat, labelled(20, 9), TuningOptions(batch_size=4), method="sft", preference=True, seed=3)
    assert (material.kind, material.rows, len(material.columns["input_ids"])) == ("sft", 20, 20)


def test_rows_without_room_are_dropped_from_both_arms(chat: Chat) -> None:
    lengths = sorted(len(ids) for ids in chat.encode_prompts([pair.question for pair in pairs(26)]))
    options = TuningOptions(method="dpo", batch_size=4, max_length=lengths[13])
    arms = [pair_material(chat, pairs(26), options, preference=value, seed=3) for value in (True, False)]
    assert arms[0].dropped == arms[1].dropped and arms[0].dropped["prompt_too_long"] >= 12
    assert len(arms[0].columns["prompt_ids"]) == len(arms[1].columns["input_ids"])


@pytest.mark.parametrize(
    ("method", "options", "steps"),
    [
        ("dpo", {"losses": ["sigmoid", "sft"], "loss_weights": [0.5, 1.0]}, 7),
        ("dpo", {"precompute_reference": False, "gradient_accumulation": 2}, 4),
        ("kto", {}, 8),
        ("sft", {}, 5),
    ],
)
def test_both_arms_take_the_same_number_of_steps(start: Path, method: str, options: dict[str, Any], steps: int) -> None:
    preference, first = tune(start, "preference", method=method, **options)
    control, second = tune(start, "control", method=method, **options)
    assert first.counts["steps"] == second.counts["steps"] == steps
    assert (first.counts["control"], second.counts["control"]) == (0, 1)
    assert not same_weights(start, preference) and not same_weights(start, control)
    assert same_weights(preference, control) == (method == "sft")
    info = read_info(control)
    assert (read_info(preference).name, info.name, info.parent, info.training["arm"]) == ("M2", "M2-control", "M1", "control")
    if method == "dpo":
        assert first.curves[0]["rewards/margins"] == pytest.approx(0, abs=1e-4)
    if method == "kto":
        assert (first.counts["desirable_weight"], first.counts["undesirable_weight"]) == pytest.approx((1, 20 / 9 * 0.75))
        assert {"kl", "rewards/chosen"} <= first.curves[-1].keys()
    assert {"chosen_tokens", "rejected_tokens"} <= first.counts.keys()


def test_the_reference_is_the_same_whether_computed_before_or_during(start: Path) -> None:
    _, before = tune(start, name="before", epochs=6)
    _, during = tune(start, name="during", epochs=6, precompute_reference=False)
    assert [point["loss"] for point in before.curves] == pytest.approx([point["loss"] for point in during.curves], abs=1e-4)
    assert before.curves[-1]["rewards/margins"] > 0.05
    assert before.curves[-1]["loss"] < before.curves[0]["loss"] - 0.02


@pytest.mark.parametrize("precomputed", [True, False])
def test_the_reference_is_the_rounds_start_or_m1(start: Path, precomputed: bool) -> None:
    """Rewards are measured from the reference: at the first step they are zero only when it is the starting model."""
    second, _ = tune(start, name="second", epochs=3)
    margins = {}
    for reference in ("previous", "sft"):
        options: dict[str, Any] = {"reference": reference, "precompute_reference": precomputed, "log_points": 1000}
        _, stage = tune(second, name=f"from {reference}", round_number=2, first=str(start), **options)
        margins[reference] = stage.curves[0]["rewards/margins"]
    assert margins["previous"] == pytest.approx(0.0, abs=1e-4)
    assert margins["sft"] > 0.02


def test_the_sft_term_of_kto_keeps_desirable_responses_likely(start: Path) -> None:
    likelihood = {}
    for weight in (0.0, 5.0):
        _, stage = tune(start, name=f"kto {weight}", method="kto", epochs=4, sft_weight=weight)
        likelihood[weight] = stage.curves[-1]["logps/chosen"]
    assert likelihood[5.0] > likelihood[0.0] + 0.5


@pytest.mark.parametrize(("round_number", "rate"), [(1, 2e-3), (2, 1e-3), (5, 1e-3)])
def test_each_round_has_its_learning_rate_and_the_last_one_repeats(round_number: int, rate: float) -> None:
    assert parse_options(TuningOptions, BASICS, "preference_tuning").learning_rate(round_number) == rate


def test_checkpoints_go_only_when_the_model_is_handed_on(start: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = str(start.parent / "kept checkpoints")

    def dying(folder: Path) -> bool:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("components.preference_tuning.stage.hand_on", dying)
        tune(start, name="kept", checkpoints=checkpoints, checkpoint_seconds=1e-9)
    _, stage = tune(start, name="kept", checkpoints=checkpoints, checkpoint_seconds=1e-9)
    assert stage.counts["resumed_at_step"] == stage.counts["steps"] - 1 > 0
    assert not list(open_store(checkpoints).list())


KILLED = """
import json, os, signal, sys
from components.core.options import parse_options
from components.core.stage import StageRun
from components.preference_tuning.options import TuningOptions
from components.preference_tuning.stage import run

class Killed(StageRun):
    def progress(self, done, total, unit="rows", force=False):
        if unit == "steps" and done == 4:
            os.kill(os.getpid(), signal.SIGKILL)

folder, checkpoints, output, options = sys.argv[1:]
options = parse_options(TuningOptions, json.loads(options), "preference_tuning")
paths = [folder + "/M1", folder + "/M1", folder + "/pairs.jsonl", folder + "/labelled.jsonl"]
run(*paths, options, Killed("preference_tuning"), checkpoints=checkpoints, round_number=1, arm="preference", seed=3, output=output)
"""


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_a_run_killed_by_sigkill_continues_to_the_same_weights(start: Path, tmp_path: Path, method: str) -> None:
    undisturbed, _ = tune(start, name=f"undisturbed {method}", method=method)
    options = {**BASICS, "method": method, "checkpoint_seconds": 1e-6}
    arguments = [str(start.parent), str(tmp_path / "work"), str(tmp_path / "M2"), json.dumps(options)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "M2").exists()
    continued, stage = tune(start, name=f"continued {method}", checkpoints=str(tmp_path / "work"), **options)
    assert stage.counts["resumed_at_step"] == 3
    assert same_weights(undisturbed, continued)
    assert not list(open_store(str(tmp_path / "work")).list())


def test_the_arms_do_not_share_checkpoints(start: Path) -> None:
    """The control arm must never continue from the preference arm's work."""
    seen = []

    class Watching(StageRun):
        def progress(self, done: int, total: int, unit: str = "rows", force: bool = False) -> None:
            seen.append({path.parent.name for path in (start.parent / "shared").glob("*/checkpoint-*")})

    for arm in ("preference", "control"):
        run(
            str(start), str(start), str(start.parent / "pairs.jsonl"), str(start.parent / "labelled.jsonl"),
            parse_options(TuningOptions, {**BASICS, "checkpoint_seconds": 1e-6}, "preference_tuning"), Watching("preference_tuning"),
            checkpoints=str(start.parent / "shared"), round_number=1, arm=arm, seed=3, output=str(start.parent / "out"),
        )  # fmt: skip
    assert len(set.union(*seen)) == 2


@pytest.mark.parametrize(
    ("arm", "options", "error", "message"),
    [
        ("placebo", {}, ParameterError, "preference or control"),
        ("preference", {"loss_weights": [1.0, 2.0]}, ParameterError, "loss_weights"),
        ("preference", {"batch_size": 1}, ParameterError, "batch_size"),
        ("preference", {"method": "dpo", "sft_weight": 0.1}, ParameterError, "sft_weight"),
        ("preference", {"learning_rates": []}, ParameterError, "learning_rates"),
    ],
)
def test_what_cannot_be_done_is_refused(start: Path, arm: str, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        tune(start, arm, **options)


@pytest.fixture
def elsewhere(start: Path, tmp_path: Path) -> Path:
    """M1 in a folder of its own, beside which a test puts the rows that it wants."""
    return Path(shutil.copytree(start, tmp_path / "M1"))


@pytest.mark.parametrize(
    ("method", "rows", "options", "reason", "dropped"),
    [
        ("dpo", (0, 0, 0), {}, "dpo has no pair to learn from", {}),
        ("kto", (0, 0, 0), {}, "kto has no labelled response to learn from", {}),
        ("sft", (0, 0, 0), {}, "sft has no labelled response to learn from", {}),
        ("kto", (0, 8, 0), {}, "kto learns from right and wrong responses, and of 8 there are 8 right and 0 wrong", {"one_label_only": 8}),
        ("kto", (0, 0, 5), {}, "kto learns from right and wrong responses, and of 5 there are 0 right and 5 wrong", {"one_label_only": 5}),
        ("sft", (0, 0, 5), {}, "sft learns from right responses, and of 5 there are 0 right and 5 wrong ones", {"one_label_only": 5}),
        ("dpo", (6, 0, 0), {"max_length": 2}, "of 6 none is within max_length = 2 tokens", {"prompt_too_long": 6}),
        ("kto", (0, 8, 5), {"max_length": 2}, "of 13 there are 0 right and 0 wrong ones within max_length = 2", {"prompt_too_long": 13}),
        ("dpo", (0, 0, 0), {"nodes": 2, "batch_size": 32}, "dpo has no pair to learn from", {}),
    ],
)
def test_with_nothing_to_learn_from_the_model_goes_on_as_it_came(
    elsewhere: Path, method: str, rows: tuple[int, int, int], options: dict[str, Any], reason: str, dropped: dict[str, int]
) -> None:
    write_records(elsewhere.parent / "pairs.jsonl", pairs(rows[0]))
    write_records(elsewhere.parent / "labelled.jsonl", labelled(*rows[1:]))
    for arm in ("preference", "control"):
        handed_on, stage = tune(elsewhere, arm, method=method, **options)
        assert digest_of(handed_on) == digest_of(elsewhere)
        record = stage.record()
        assert reason in record.left_out and (record.dropped, record.rows_kept, record.rows_in) == (dropped, 0, sum(rows))
        assert record.curves == [] and "steps" not in record.counts
        assert (record.lineage["model"]["name"], record.lineage["arm"]) == ("M1", arm)
    assert not (elsewhere.parent / "checkpoints").exists()


def test_a_model_that_lies_in_a_store_is_handed_on_without_its_weights(elsewhere: Path) -> None:
    """The store cannot even be reached: nothing asks it for anything."""
    for name in ("pairs.jsonl", "labelled.jsonl"):
        write_records(elsewhere.parent / name, [])
    reference = ModelReference(uri="s3://nowhere/models/0123", digest="0123")
    refer(reference, elsewhere / "tutorloop.json", elsewhere.parent / "by reference")
    handed_on, _ = tune(elsewhere.parent / "by reference")
    assert reference_in(handed_on) == reference
    assert digest_of(handed_on) == digest_of(elsewhere.parent / "by reference")
