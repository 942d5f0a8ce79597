"""Time, memory and recall of the contamination stage, with planted positives; and the same for lm-eval's Janitor where installed.

    python -m tests.benchmarks.contamination --train 200000 --tests 1319 --json result.json

The texts are our own: invented words with a Zipf distribution, function words and numbers, as long as GSM8K problems. Every
contender runs in a process of its own on the same files; wall time includes reading and writing them.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from components.contamination.options import ContaminationOptions
from components.contamination.stage import run
from components.core.records import ContaminationMatch, Demonstration, Problem, problem_id, read_records, row_id, write_records
from components.core.stage import StageRun

PLANTED = 100
SHORT_WORDS = 6
FUNCTION_WORDS = "the a of and to in each has have is are he she they his her for with then if how many much does on at from more than"
CLASSES = ("verbatim", "case and space", "numbers changed", "one word in eight changed", "shorter than 8 words")


class Row(msgspec.Struct):
    """What one contender did."""

    contender: str
    wall_s: float
    cpu_s: float
    peak_mb: float
    recall: dict[str, float]
    false_positives: int


class Writer:
    """Writes problems from a vocabulary of invented words."""

    def __init__(self, seed: int, vocabulary: int = 15_000) -> None:
        self.rng = random.Random(seed)
        syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
        self._function_words = FUNCTION_WORDS.split()
        self._words: list[str] = []
        while len(self._words) < vocabulary:
            self._words.append("".join(self.rng.choices(syllables, k=self.rng.randint(2, 4))))
        self._weights = list(itertools.accumulate(1 / (rank + 20) for rank in range(vocabulary)))

    def words(self, count: int) -> list[str]:
        """Words for one text: half of them function words, one in ten a number."""
        content = self.rng.choices(self._words, cum_weights=self._weights, k=count)
        kinds = self.rng.choices(("word", "function", "number"), weights=(4, 5, 1), k=count)
        return [
            word if kind == "word" else self.rng.choice(self._function_words) if kind == "function" else str(self.rng.randint(2, 99))
            for word, kind in zip(content, kinds, strict=True)
        ]

    def question(self, count: int = 0) -> str:
        """One problem of ``count`` words, by default about as many as GSM8K problems have."""
        length = count or max(15, int(self.rng.lognormvariate(3.75, 0.4)))
        return " ".join(self.words(length)).capitalize() + "?"

    def variant(self, question: str, kind: str) -> str:
        """A leak of the question of the given class."""
        if kind == "case and space":
            return question.upper().replace(" ", "  ").replace("?", " ?")
        if kind == "numbers changed":
            return re.sub(r"\d+", lambda number: str(int(number[0]) + 100), question)
        if kind == "one word in eight changed":
            words = question.split()
            for place in self.rng.sample(range(len(words)), len(words) // 8):
                words[place] = self.words(1)[0]
            return " ".join(words)
        return question


def _demonstration(question: str) -> Demonstration:
    identifier = problem_id(question)
    solution = "A first step says so. " * 8 + "\n#### 1"
    return Demonstration(
        id=row_id(identifier),
        problem_id=identifier,
        source="own",
        question=question,
        solution=solution,
        answer="1",
        licence="Apache-2.0",
        method="seed",
        maker="own",
    )


def make_data(folder: Path, train: int, tests: int, seed: int) -> dict[str, list[str]]:
    """Write the files; return the problem ids of the planted training problems per class."""
    writer = Writer(seed)
    questions = [writer.question(SHORT_WORDS if number < PLANTED else 0) for number in range(tests)]
    write_records(
        folder / "tests.jsonl",
        (Problem(id=problem_id(text), source="bench", split="test", question=text, answer="1", licence="Apache-2.0") for text in questions),
    )
    planted: dict[str, list[str]] = {}
    rows = []
    for kind in CLASSES:
        victims = questions[:PLANTED] if kind.startswith("shorter") else writer.rng.sample(questions[PLANTED:], PLANTED)
        leaks = [_demonstration(writer.variant(text, kind)) for text in victims]
        planted[kind] = [row.problem_id for row in leaks]
        rows.extend(leaks)
    clean = (_demonstration(writer.question()) for _ in range(train - len(rows)))
    write_records(folder / "demonstrations.jsonl", itertools.chain(clean, rows))
    write_records(folder / "corpus.jsonl", [])
    return planted


def tutorloop(folder: Path) -> set[str]:
    """The stage as it runs in the pipeline; the problem ids it found."""
    outputs = folder / "train.jsonl", folder / "matches.jsonl"
    run(
        [folder / "demonstrations.jsonl"],
        folder / "tests.jsonl",
        folder / "corpus.jsonl",
        *outputs,
        ContaminationOptions(),
        StageRun("contamination"),
    )
    return {match.train_id for match in read_records(outputs[1], ContaminationMatch)}


def janitor(folder: Path, n: int) -> set[str]:
    """lm-eval's Janitor: a question is found when any of its n-grams is one of a benchmark question's.

    Its smallest chunk is set to 0: with its default of 200 characters it gives back nothing for any short text, clean or not.
    """
    from lm_eval.decontamination.janitor import Janitor  # type: ignore[import-not-found,unused-ignore]

    cleaner = Janitor(ngram_n=n, minimum_slice_length=0)
    for problem in read_records(folder / "tests.jsonl", Problem):
        cleaner.register_contaminant_python(problem.question)
    rows = read_records(folder / "demonstrations.jsonl", Demonstration)
    return {row.problem_id for row in rows if cleaner.clean_python(row.question) != [row.question]}


CONTENDERS: dict[str, Callable[[Path], set[str]]] = {
    "tutorloop": tutorloop,
    "janitor 13-gram": lambda folder: janitor(folder, 13),
    "janitor 8-gram": lambda folder: janitor(folder, 8),
}


def measure(contender: str, folder: Path, planted: dict[str, list[str]]) -> Row:
    """Run a contender in its own process."""
    started = time.perf_counter()
    with (folder / "log.txt").open("ab") as log:
        command = [sys.executable, "-m", "tests.benchmarks.contamination", "--contender", contender, "--folder", str(folder)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{contender} failed:\n{(folder / 'log.txt').read_text()[-3000:]}")
    wall = time.perf_counter() - started
    found = set(msgspec.json.decode((folder / "found.json").read_bytes(), type=list[str]))
    return Row(
        contender=contender,
        wall_s=round(wall, 1),
        cpu_s=round(usage.ru_utime + usage.ru_stime, 1),
        peak_mb=round(usage.ru_maxrss / 1024),
        recall={kind: round(sum(identifier in found for identifier in ids) / len(ids), 3) for kind, ids in planted.items()},
        false_positives=len(found - {identifier for ids in planted.values() for identifier in ids}),
    )


def main() -> None:
    """Parse the command line, run all contenders, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=200_000, help="training problems")
    parser.add_argument("--tests", type=int, default=1_319, help="benchmark problems")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the result here")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        found = CONTENDERS[arguments.contender](arguments.folder)
        (arguments.folder / "found.json").write_bytes(msgspec.json.encode(sorted(found)))
        return
    names = [name for name in CONTENDERS if name == "tutorloop" or importlib.util.find_spec("lm_eval")]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        planted = make_data(folder, arguments.train, arguments.tests, arguments.seed)
        rows = [measure(name, folder, planted) for name in names]
    print(f"{arguments.train} training problems, {arguments.tests} benchmark problems, {PLANTED} planted per class")
    print("| contender | wall s | CPU s | peak MB | " + " | ".join(CLASSES) + " | false positives |")
    print("|---" * (5 + len(CLASSES)) + "|")
    for row in rows:
        recalls = " | ".join(f"{row.recall[kind]:.2f}" for kind in CLASSES)
        print(f"| {row.contender} | {row.wall_s} | {row.cpu_s} | {row.peak_mb:.0f} | {recalls} | {row.false_positives} |")
    if arguments.json:
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=1))


if __name__ == "__main__":
    main()
