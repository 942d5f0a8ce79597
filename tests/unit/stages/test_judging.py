"""Judging: rules, the teacher behind a real HTTP server, and how good the judge is."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import InputError, ParameterError
from components.core.ledger.task_records import read_record
from components.core.options import parse_options
from components.core.records import Demonstration, JudgedSample, Sample, read_records, write_records
from components.core.stage import StageRun
from components.grading import symbols as answer_symbols
from components.judging.golden import GoldenRow, golden_rows
from components.judging.measure import measure, measure_verdicts
from components.judging.options import JudgingOptions
from components.judging.stage import run
from components.judging.verdicts import parse_answer, parse_verdict
from components.teacher.options import TeacherOptions
from tests.support.ports import NOBODY


class Server(ThreadingHTTPServer):
    """A judge that answers by a script: the student's text names the replies, one per sample index."""

    requests: list[dict[str, Any]]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(body)
        student = body["messages"][-1]["content"].split("Student's answer:")[1].strip()
        if "REFUSE" in student:
            self._send(422, {"error": {"message": "content filter"}})
            return
        verdict = "Verdict: Correct" if "hidden twelve" in student else "Verdict: Incorrect"
        if "GARBAGE" in student and not ("ONCE" in student and body["seed"] == 1):
            verdict = "I would rather talk about the weather."
        text = f"Reference: 12\nStudent: {student.split()[0]}\n{verdict}"
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        self._send(200, {"id": "x", "object": "chat.completion", "created": 0, "model": "judge", "choices": [choice], "usage": usage})

    def _send(self, status: int, body: dict[str, Any]) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server(("127.0.0.1", 0), Handler)
    found.requests = []
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield found
    found.shutdown()
    found.server_close()


def judge(folder: Path, texts: list[str], address: str = f"http://{NOBODY}/v1", **options: Any) -> tuple[list[JudgedSample], StageRun]:
    demonstration = Demonstration(
        id="t", problem_id="p", source="own", question="What is 3 * 4?", solution="3 * 4 = 12. #### 12", answer="12",
        alternatives=["D"], licence="Apache-2.0", method="seed", maker="teacher",
    )  # fmt: skip
    write_records(folder / "train.jsonl", [demonstration])
    rows = [
        Sample(
            id=f"s{index}", problem_id="p", question="What is 3 * 4?", model="M1", sample=index, seed=index, temperature=0.7, top_p=0.95,
            text=text, tokens=4, finish="stop",
        )
        for index, text in enumerate(texts)
    ]  # fmt: skip
    write_records(folder / "samples.jsonl", rows)
    stage = StageRun("judging")
    run(
        folder / "samples.jsonl",
        folder / "train.jsonl",
        folder / "judged.jsonl",
        TeacherOptions(base_url=address, model="judge", max_retries=1, backoff_s=0.0),
        parse_options(JudgingOptions, options, "judging"),
        str(folder / "responses"),
        stage,
    )
    return list(read_records(folder / "judged.jsonl", JudgedSample)), stage


def judge_again(folder: Path) -> None:
    files = folder / "samples.jsonl", folder / "train.jsonl", folder / "out.jsonl"
    run(*files, TeacherOptions(), JudgingOptions(), str(folder / "responses"), StageRun("judging"))


TEXTS = [
    "#### 12",
    "#### 13",
    "It is the hidden twelve, of course",
    "twelve-ish GARBAGE here",
    "maybe GARBAGE ONCE, hidden twelve",
    "well REFUSE that",
    "(D)",
]


def test_rules_first_then_the_teacher(tmp_path: Path, server: Server) -> None:
    rows, stage = judge(tmp_path, TEXTS, server.address)
    assert [row.id for row in rows] == [f"s{index}" for index in range(len(TEXTS))]
    assert [row.correct for row in rows] == [True, False, True, False, True, False, True]
    assert [row.decided_by for row in rows] == ["rule", "rule", "judge", "unparsable", "judge", "unparsable", "rule"]
    assert [row.answer for row in rows[:2]] == ["12", "13"]
    assert {row.reference for row in rows} == {"12"}
    counts = stage.counts
    assert (counts["by_rule"], counts["by_judge"], counts["unparsable"]) == (3, 2, 2)
    assert (counts["correct"], counts["incorrect"], counts["pass_ratio"]) == (4, 3, round(4 / 7, 4))
    assert counts["unreadable_replies"] == 5
    asked = [request["messages"][-1]["content"] for request in server.requests]
    assert all(text.startswith("Problem: What is 3 * 4?\n\nReference answer: 12\n\nStudent's answer: ") for text in asked)
    assert not any("####" in text for text in asked)
    assert stage.usage is not None
    assert stage.usage.requests == 5
    assert stage.prompts["judge"].startswith("judge@")
    assert len(stage.examples["right"]) == 4
    assert len(stage.examples["wrong"]) == 3


def test_a_rerun_asks_nothing_but_what_failed(tmp_path: Path, server: Server) -> None:
    first, _ = judge(tmp_path, TEXTS, server.address)
    before = len(server.requests)
    again, stage = judge(tmp_path, TEXTS, server.address)
    assert again == first
    assert stage.usage is not None
    assert stage.usage.requests == 0
    assert stage.usage.cache_hits == 5
    refused = [request for request in server.requests[before:] if "REFUSE" not in request["messages"][-1]["content"]]
    assert refused == []


def test_always_asks_about_everything_and_compares_with_the_rules(tmp_path: Path, server: Server) -> None:
    rows, stage = judge(tmp_path, ["#### 12", "the hidden twelve\n#### 12", "#### 5"], server.address, judge="always")
    assert [row.correct for row in rows] == [False, True, False]
    assert {row.decided_by for row in rows} == {"judge"}
    assert len(server.requests) == 3
    assert stage.counts["judge_agrees_with_rule"] == round(2 / 3, 4)


def test_of_a_very_long_response_the_judge_is_shown_the_end(tmp_path: Path, server: Server) -> None:
    """The answer stands there."""
    long = "beginning " + "and so on " * 40 + "hidden twelve"
    rows, _ = judge(tmp_path, [long], server.address, judge="always", max_response_chars=100)
    shown = server.requests[0]["messages"][-1]["content"].split("Student's answer:")[1].strip()
    assert shown == long[-100:].strip() and rows[0].correct


def test_rule_only_counts_the_undecided_as_wrong(tmp_path: Path) -> None:
    rows, stage = judge(tmp_path, TEXTS, judge="rule_only")
    assert [row.correct for row in rows] == [True, False, False, False, False, False, True]
    assert stage.counts["undecided_by_rule"] == 4
    assert rows[2].reason == "undecided by the rules"
    assert stage.usage is None


def test_teacher_is_not_contacted_when_rules_decide(tmp_path: Path) -> None:
    rows, stage = judge(tmp_path, ["#### 12", "#### 3"])
    assert [row.correct for row in rows] == [True, False]
    assert stage.usage is None
    assert not (tmp_path / "responses").exists()


def test_the_teacher_client_is_not_even_loaded_by_rules() -> None:
    code = "import sys, components.judging.stage; print('openai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_teacher_can_be_measured_on_the_golden_set(tmp_path: Path, server: Server) -> None:
    _, stage = judge(tmp_path, ["#### 12"], server.address, measure_teacher=True)
    assert len(server.requests) == len({(row.question, row.response) for row in golden_rows()})
    assert stage.counts["golden_judge_n"] == len(golden_rows())
    assert stage.counts["golden_judge_recall"] == 0.0


@pytest.mark.parametrize("options", [{}, {"judge": "always", "measure_teacher": True}])
def test_a_shard_without_samples_is_no_error_and_asks_nobody(tmp_path: Path, options: dict[str, Any]) -> None:
    rows, stage = judge(tmp_path, [], **options)
    assert (rows, stage.rows_in, stage.rows_kept, stage.left_out) == ([], 0, 0, "")
    assert not (tmp_path / "responses").exists()


def test_unknown_problems_are_refused(tmp_path: Path) -> None:
    judge(tmp_path, ["#### 12"])
    (tmp_path / "train.jsonl").write_text("")
    with pytest.raises(InputError, match=r"samples.jsonl, line 1: problem p has no demonstration"):
        judge_again(tmp_path)
    with pytest.raises(ParameterError, match=r"judging.judge"):
        parse_options(JudgingOptions, {"judge": "sometimes"}, "judging")


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("Reference: 4\nStudent: 4\nVerdict: Correct", True),
        ("Verdict: Incorrect", False),
        ("**Verdict:** **Correct**", True),
        ("Final Verdict: incorrect.", False),
        ("Verdict: Correct\nOn second thought\nVerdict: Incorrect", False),
        ("- verdict： correct", True),
        ("The verdict is clear: Correct", None),
        ("Verdict: Correctish", None),
        ("Correct", None),
        ("", None),
    ],
)
def test_verdict_line(reply: str, verdict: bool | None) -> None:
    assert parse_verdict(reply) is verdict


@pytest.mark.parametrize(("reply", "answer"), [("Student: 7/2\nVerdict: Correct", "7/2"), ("Student: none", None), ("nothing", None)])
def test_answer_line(reply: str, answer: str | None) -> None:
    assert parse_answer(reply) == answer


def test_rules_on_the_golden_set() -> None:
    before = answer_symbols.worker.starts
    found = measure(golden_rows())
    assert found.n >= 50
    assert found.precision == 1.0
    assert found.recall > 0.95
    assert 0 < found.undecided < 0.05
    assert answer_symbols.worker.starts == before


def test_measure_counts() -> None:
    rows = [GoldenRow(question="q", reference="1", response="r", correct=correct) for correct in (True, True, True, False, False)]
    found = measure_verdicts(rows, [True, None, False, True, False])
    assert (found.n, found.precision, found.recall, found.undecided) == (5, 0.5, 1 / 3, 0.2)
    assert measure_verdicts([], []).precision == 1.0


def test_rules_on_the_labelled_solutions_of_gsm8k(shared_data: Path) -> None:
    known = golden_rows([str(shared_data / "gsm8k" / "example_model_solutions.jsonl")])
    found = measure(known)
    assert found.n == 5276 + len(golden_rows())
    assert found.precision > 0.99
    assert found.recall > 0.99
    assert found.undecided < 0.005


MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
"""The models of GSM8K's labelled solutions."""


def test_golden_sets_of_ones_own_count_in_the_record(tmp_path: Path) -> None:
    own, published = tmp_path / "own.jsonl", tmp_path / "published.jsonl"
    write_records(own, [GoldenRow(question="q", reference="3", response="#### 3", correct=True)])
    # The published labels are wrong on purpose: the rules call all four responses correct.
    solutions = {name: {"is_correct": False, "solution": "A: 3"} for name in MODELS}
    published.write_text(json.dumps({"question": "q", "ground_truth": "6 / 2 = 3\nA: 3", **solutions}) + "\n")
    _, stage = judge(tmp_path, ["#### 12"], golden=[str(own), str(published)])
    assert stage.counts["golden_rule_n"] == len(golden_rows()) + 5
    known = golden_rows([str(own)])
    right = round(measure(known).recall * sum(row.correct for row in known))
    assert stage.counts["golden_rule_precision"] == pytest.approx(right / (right + 4), abs=1e-4)


@pytest.mark.parametrize("line", ["{", "[]", '{"question": "q"}', '{"question": "q", "ground_truth": "3", "6b_finetuning": {}}'])
def test_a_broken_golden_row_is_named(tmp_path: Path, line: str) -> None:
    golden = tmp_path / "golden.jsonl"
    golden.write_text(f"{line}\n")
    with pytest.raises(InputError, match=r"golden\.jsonl.*1"):
        golden_rows([str(golden)])


def test_a_golden_set_is_a_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a file"):
        golden_rows([str(tmp_path)])


def test_component_runs(tmp_path: Path) -> None:
    component = pytest.importorskip("components.judging.component")

    class Artifact:
        def __init__(self, name: str) -> None:
            self.path = str(tmp_path / name)
            self.metadata: dict[str, Any] = {}

    judge(tmp_path, ["#### 12", "#### 1"])
    judged = Artifact("judged")
    reference = component.judge.python_func(
        Artifact("samples.jsonl"), Artifact("train.jsonl"), {"base_url": f"http://{NOBODY}/v1"}, {"time_limit_s": 5.0},
        str(tmp_path / "r"), str(tmp_path), 1, "0/1", judged,
    )  # fmt: skip
    assert read_record(reference).task == "judging M1"
    assert judged.metadata["pass_ratio"] == 0.5
    assert judged.metadata["golden_rule_precision"] == 1.0
