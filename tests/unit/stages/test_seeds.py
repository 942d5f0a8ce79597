"""Sources, splits, filters, limits and errors of the seeds stage."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import EmptyOutputError, InputError, ParameterError, StoreError
from components.core.options import parse_options
from components.core.records import Problem, problem_id, read_records
from components.core.stage import StageRun
from components.core.store import open_store
from components.seeds.options import SeedsOptions, SourceOptions
from components.seeds.stage import collect_benchmarks, collect_seeds
from components.seeds.version import sources_version


def gsm8k_line(number: int, steps: int = 1) -> str:
    worked = "".join(f"Step {step}.\n" for step in range(steps))
    return json.dumps(
        {"question": f"Ivo counts {number} gulls, then as many again. How many in all?", "answer": f"{worked}#### {2 * number}"}
    )


def write_gsm8k(path: Path, count: int, start: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(gsm8k_line(start + number) for number in range(count)) + "\n", encoding="utf-8")
    return path


def collect(role: str, sources: list[dict[str, Any]], tmp_path: Path, seed: int = 0) -> tuple[list[Problem], StageRun]:
    stage = StageRun("seeds", role)
    output = tmp_path / "out" / f"{role}.jsonl"
    options = parse_options(SeedsOptions, {"sources": sources}, role)
    (collect_seeds if role == "seeds" else collect_benchmarks)(output, options, seed, stage)
    return list(read_records(output, Problem)), stage


def ids(problems: list[Problem]) -> set[str]:
    return {problem.id for problem in problems}


def test_a_test_split_is_never_a_seed(tmp_path: Path) -> None:
    train = str(write_gsm8k(tmp_path / "train.jsonl", 3))
    test = str(write_gsm8k(tmp_path / "gsm8k-test.jsonl", 3))
    for source in (
        {"adapter": "gsm8k", "uri": train, "split": "test"},
        {"adapter": "gsm8k", "uri": test},
        {"adapter": "gsm8k", "uri": test, "split": "train"},
        {"adapter": "jsonl", "uri": test, "split": "dev", "licence": "MIT"},
        {"adapter": "builtin", "count": 5, "split": "test"},
        {"adapter": "gsm8k", "uri": "hub:some/set", "split": "test"},
    ):
        with pytest.raises(ParameterError, match="test"):
            collect("seeds", [source], tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("adapter", ["svamp", "addsub", "singleop", "singleeq", "multiarith", "asdiv"])
def test_evaluation_sets_become_seeds_only_on_request(adapter: str, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="only when you say so") as caught:
        collect("seeds", [{"adapter": adapter, "uri": str(tmp_path)}], tmp_path)
    assert caught.value.name == "seeds.sources[0].split"


def test_an_evaluation_set_as_seeds_on_request(tmp_path: Path) -> None:
    path = tmp_path / "singleop.jsonl"
    path.write_text('{"input": "1 and 1?", "target": 2.0}\n')
    problems, _ = collect("seeds", [{"adapter": "singleop", "uri": str(path), "split": "train"}], tmp_path)
    assert [problem.split for problem in problems] == ["train"]


def test_rows_that_claim_another_split_are_left_out(tmp_path: Path) -> None:
    rows = [
        {"question": f"Q {split}?", "answer": 1, "split": split, "licence": "MIT"} for split in ("train", "validation", "test", "train-2")
    ]
    path = tmp_path / "all.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    problems, stage = collect("seeds", [{"adapter": "jsonl", "uri": str(path)}], tmp_path)
    assert [problem.question for problem in problems] == ["Q train?", "Q train-2?"]
    assert stage.dropped == {"other_split": 2}


def test_a_benchmark_is_dev_or_test(tmp_path: Path) -> None:
    path = str(write_gsm8k(tmp_path / "train.jsonl", 3))
    with pytest.raises(ParameterError, match=r"benchmarks\.sources\[0\]\.split"):
        collect("benchmarks", [{"adapter": "gsm8k", "uri": path}], tmp_path)


def test_duplicates_are_counted_across_sources(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    first = json.loads(gsm8k_line(1))
    shouted = {**first, "question": first["question"].upper().replace(" ", "  ")}
    path.write_text("\n".join(map(json.dumps, [first, shouted, {**first, "answer": "#### 9"}])))
    other = write_gsm8k(tmp_path / "more_train.jsonl", 4)
    sources = [{"adapter": "gsm8k", "uri": str(path)}, {"adapter": "gsm8k", "uri": str(other), "name": "more"}]
    problems, stage = collect("seeds", sources, tmp_path)
    assert [problem.source for problem in problems] == ["gsm8k", "more", "more", "more"]
    assert stage.dropped == {"duplicate": 2, "duplicate_with_other_answer": 1}
    assert (stage.rows_in, stage.rows_kept) == (7, 4)
    assert stage.counts == {"rows_gsm8k": 1, "rows_more": 3}


def test_benchmarks_keep_a_problem_that_another_benchmark_has(tmp_path: Path) -> None:
    path = str(write_gsm8k(tmp_path / "test.jsonl", 3))
    problems, stage = collect(
        "benchmarks", [{"adapter": "gsm8k", "uri": path}, {"adapter": "gsm8k", "uri": path, "name": "again"}], tmp_path
    )
    assert len(problems) == 6
    assert not stage.dropped


def test_benchmark_names_are_unique(tmp_path: Path) -> None:
    sources = [{"adapter": "builtin", "count": 2, "split": split} for split in ("dev", "test")]
    with pytest.raises(ParameterError, match=r"sources\[1\]\.name"):
        collect("benchmarks", sources, tmp_path)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_dev_share_is_disjoint_whatever_seed_and_limit(seed: int, tmp_path: Path) -> None:
    source = {"adapter": "gsm8k", "uri": str(write_gsm8k(tmp_path / "train.jsonl", 1000)), "dev_share": 0.2}
    seeds, stage = collect("seeds", [source], tmp_path, seed)
    dev, _ = collect("benchmarks", [{**source, "split": "train", "name": "dev"}], tmp_path, 1 - seed)
    assert not ids(seeds) & ids(dev)
    assert len(seeds) + len(dev) == 1000
    assert 150 < len(dev) < 250
    assert {problem.split for problem in dev} == {"dev"}
    assert stage.dropped == {"held_out_for_dev": len(dev)}
    limited, _ = collect("seeds", [{**source, "limit": 30}], tmp_path, seed)
    assert ids(limited) < ids(seeds)


def test_the_dev_share_is_disjoint_when_only_one_side_shows_the_choices(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    rows = [{"question": f"Which {n}?", "options": ["A)1", "B)2"], "rationale": "So", "correct": "A"} for n in range(60)]
    path.write_text("\n".join(map(json.dumps, rows)))
    source = {"adapter": "aqua", "uri": str(path), "dev_share": 0.5}
    seeds, _ = collect("seeds", [source], tmp_path)
    dev, _ = collect("benchmarks", [{**source, "split": "train", "choices": True}], tmp_path)
    stems = {problem.question.split("\n")[0] for problem in dev}
    assert len(seeds) + len(dev) == 60
    assert not stems & {problem.question for problem in seeds}


def test_only_a_train_split_is_carved(tmp_path: Path) -> None:
    path = str(write_gsm8k(tmp_path / "test.jsonl", 3))
    with pytest.raises(ParameterError, match="dev_share"):
        collect("benchmarks", [{"adapter": "gsm8k", "uri": path, "dev_share": 0.5}], tmp_path)


def test_a_limit_is_a_seeded_choice_in_the_files_order(tmp_path: Path) -> None:
    source = {"adapter": "gsm8k", "uri": str(write_gsm8k(tmp_path / "train.jsonl", 200))}
    everything, _ = collect("seeds", [source], tmp_path)
    twenty, stage = collect("seeds", [{**source, "limit": 20}], tmp_path)
    forty, _ = collect("seeds", [{**source, "limit": 40}], tmp_path)
    other, _ = collect("seeds", [{**source, "limit": 20}], tmp_path, seed=1)
    pinned, _ = collect("seeds", [{**source, "limit": 20, "seed": 0}], tmp_path, seed=1)
    assert ids(twenty) < ids(forty)
    assert ids(other) != ids(twenty) == ids(pinned)
    assert [problem for problem in everything if problem.id in ids(twenty)] == twenty
    assert stage.dropped == {"beyond_limit": 180}


def test_filters(tmp_path: Path) -> None:
    rows = [
        {"question": "Short?", "answer": "1,000", "steps": 1},
        {"question": "Long" * 30 + "?", "answer": 1, "steps": 1},
        {"question": "Deep?", "answer": 1, "steps": 5},
        {"question": "Unknown?", "answer": 1},
        {"question": "Two answers?", "answer": "1, 2", "steps": 1},
        {"question": "Fraction?", "answer": "-3/4", "steps": 1},
    ]
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    source = {"adapter": "jsonl", "uri": str(path), "licence": "MIT", "max_question_chars": 100, "max_steps": 2, "single_number": True}
    problems, stage = collect("seeds", [source], tmp_path)
    assert [problem.question for problem in problems] == ["Short?", "Fraction?"]
    assert stage.dropped == {"question_too_long": 1, "too_many_steps": 1, "steps_unknown": 1, "not_a_single_number": 1}


def test_builtin_splits_are_disjoint_and_follow_the_seed(tmp_path: Path) -> None:
    train, stage = collect("seeds", [{"adapter": "builtin", "count": 40, "max_steps": 2, "max_number": 40}], tmp_path)
    benchmarks = [{"adapter": "builtin", "count": 20, "split": split, "name": split} for split in ("dev", "test")]
    held_out, _ = collect("benchmarks", benchmarks, tmp_path)
    assert len(ids(train) | ids(held_out)) == 80
    assert {(problem.source, problem.split) for problem in held_out} == {("dev", "dev"), ("test", "test")}
    assert all(1 <= (problem.steps or 0) <= 2 for problem in train)
    assert all((problem.solution or "").endswith(f"#### {problem.answer}") for problem in train)
    assert ids(collect("seeds", [{"adapter": "builtin", "count": 40}], tmp_path, seed=1)[0]) != ids(train)
    assert stage.examples["seed"][0]["id"] == train[0].id


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ({"adapter": "builtin"}, "count"),
        ({"adapter": "builtin", "count": 1, "uri": "x"}, "uri"),
        ({"adapter": "builtin", "count": 1, "dev_share": 0.1}, "dev_share"),
        ({"adapter": "gsm8k", "uri": "x", "count": 3}, "count"),
        ({"adapter": "gsm8k", "uri": "x", "fields": {"question": "q"}}, "fields"),
        ({"adapter": "jsonl", "uri": "x", "fields": {"prompt": "q"}}, "fields"),
        ({"adapter": "gsm8k", "uri": "x", "config": "main"}, "config"),
        ({"adapter": "gsm8k"}, "uri"),
    ],
)
def test_options_that_do_not_fit_together(source: dict[str, Any], name: str, tmp_path: Path) -> None:
    with pytest.raises(ParameterError) as caught:
        collect("seeds", [source], tmp_path)
    assert caught.value.name == f"seeds.sources[0].{name}"


@pytest.mark.parametrize(
    "values", [{}, {"sources": []}, {"sources": [{"adapter": "nope"}]}, {"sources": [{"adapter": "gsm8k", "url": "x"}]}]
)
def test_wrong_options_are_named(values: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match="seeds"):
        parse_options(SeedsOptions, values, "seeds")


GOOD = gsm8k_line(1).encode()


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        (b"", 0, "the file is empty"),
        (b"\xef\xbb\xbf \n\n", 0, "the file is empty"),
        (GOOD + b"\n\n{broken\n", 3, "not a JSON object"),
        (GOOD + b"\n[1]\n", 2, "expected a JSON object, found list"),
        (GOOD + b'\n{"question": "Q?"}\n', 2, "no field 'answer'"),
        (GOOD + b'\n{"question": "caf\xe9"}\n', 2, "not UTF-8 text .byte 0xe9"),
        ("[]".encode("utf-16"), 1, "not UTF-8 text"),
        (b"[" + GOOD + b",\n{broken]", 2, "not valid JSON"),
        (b"[" + GOOD + b",\n\n 5]", 0, "element 2: expected a JSON object, found int"),
        (b"<a><Problem></a>", 1, "not valid XML"),
        (b"<a>\n<Problem><Body>b</Body></Problem></a>", 0, "element 1: no field 'answer'"),
    ],
)
def test_unusable_files_are_named_with_their_place(content: bytes, line: int, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=reason) as caught:
        collect("seeds", [{"adapter": "gsm8k", "uri": str(path)}], tmp_path)
    assert (caught.value.path, caught.value.line) == (str(path), line)


def test_malformed_rows_can_be_dropped(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(GOOD + b'\n{"question": "Q?"}\n')
    problems, stage = collect("seeds", [{"adapter": "gsm8k", "uri": str(path), "malformed": "drop"}], tmp_path)
    assert len(problems) == 1
    assert stage.dropped == {"malformed": 1}


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD)
    assert len(collect("seeds", [{"adapter": "gsm8k", "uri": str(path)}], tmp_path)[0]) == 1


def test_own_data_needs_a_licence_and_benchmarks_answers(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"question": "Why?"}\n')
    with pytest.raises(InputError, match="licence"):
        collect("seeds", [{"adapter": "jsonl", "uri": str(path)}], tmp_path)
    problems, _ = collect("seeds", [{"adapter": "jsonl", "uri": str(path), "licence": "proprietary"}], tmp_path)
    assert (problems[0].answer, problems[0].licence) == (None, "proprietary")
    with pytest.raises(InputError, match="no answer"):
        collect("benchmarks", [{"adapter": "jsonl", "uri": str(path), "licence": "proprietary", "split": "dev"}], tmp_path)


def test_nothing_left_says_why(tmp_path: Path) -> None:
    path = write_gsm8k(tmp_path / "train.jsonl", 4)
    with pytest.raises(EmptyOutputError, match="4 rows in; dropped: 4 question_too_long"):
        collect("seeds", [{"adapter": "gsm8k", "uri": str(path), "max_question_chars": 3}], tmp_path)


def test_a_missing_file_and_a_folder_without_the_split(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        collect("seeds", [{"adapter": "gsm8k", "uri": str(tmp_path / "nowhere")}], tmp_path)
    write_gsm8k(tmp_path / "set" / "test.jsonl", 2)
    write_gsm8k(tmp_path / "set" / "extra.jsonl", 2)
    with pytest.raises(InputError, match=r"no file of the split 'train' in this folder \(extra.jsonl, test.jsonl\)"):
        collect("seeds", [{"adapter": "gsm8k", "uri": str(tmp_path / "set")}], tmp_path)


def test_the_file_of_the_split_is_chosen_in_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    write_gsm8k(folder / "train.jsonl", 3)
    write_gsm8k(folder / "train_extra.jsonl", 3, start=100)
    write_gsm8k(folder / "test.jsonl", 3, start=200)
    write_gsm8k(folder / "other.jsonl", 3, start=300)
    _, stage = collect("seeds", [{"adapter": "gsm8k", "uri": str(folder)}], tmp_path)
    assert [file["name"] for file in stage.lineage["sources"][0]["files"]] == ["train.jsonl"]


def test_data_folder_and_lineage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gsm8k(tmp_path / "own" / "train.jsonl", 3)
    source = {"adapter": "gsm8k", "uri": "{data}/own", "name": "mine"}
    monkeypatch.delenv("TUTORLOOP_DATA", raising=False)
    with pytest.raises(ParameterError, match="TUTORLOOP_DATA"):
        collect("seeds", [source], tmp_path)
    monkeypatch.setenv("TUTORLOOP_DATA", str(tmp_path))
    _, stage = collect("seeds", [source], tmp_path)
    fact = stage.lineage["sources"][0]
    assert fact["files"] == [{"name": "train.jsonl", "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}]
    assert (fact["uri"], fact["source"], fact["licences"], fact["rows"], fact["kept"]) == ("{data}/own", "mine", ["MIT"], 3, 3)


def test_seeds_from_s3(tmp_path: Path, s3_bucket: str) -> None:
    store = open_store(s3_bucket)
    store.upload(write_gsm8k(tmp_path / "train.jsonl", 3), "own/train.jsonl")
    store.upload(write_gsm8k(tmp_path / "test.jsonl", 3, start=50), "own/test.jsonl")
    for uri in (f"{s3_bucket}/own/train.jsonl", f"{s3_bucket}/own"):
        problems, stage = collect("seeds", [{"adapter": "gsm8k", "uri": uri}], tmp_path)
        assert len(problems) == 3
        assert stage.lineage["sources"][0]["uri"] == uri
    with pytest.raises(ParameterError, match="test"):
        collect("seeds", [{"adapter": "gsm8k", "uri": f"{s3_bucket}/own/test.jsonl"}], tmp_path)
    with pytest.raises(StoreError, match="nowhere"):
        collect("seeds", [{"adapter": "gsm8k", "uri": f"{s3_bucket}/nowhere/train.jsonl"}], tmp_path)


def test_a_data_set_folder_through_the_hub_library(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    folder = tmp_path / "set"
    write_gsm8k(folder / "train.jsonl", 3)
    write_gsm8k(folder / "validation.jsonl", 2, start=100)
    write_gsm8k(folder / "test.jsonl", 4, start=200)
    problems, stage = collect("seeds", [{"adapter": "gsm8k", "uri": f"hub:{folder}"}], tmp_path)
    assert [problem.answer for problem in problems] == ["0", "2", "4"]
    assert len(stage.lineage["sources"][0]["files"][0]["sha256_of_rows"]) == 64
    dev, _ = collect("benchmarks", [{"adapter": "gsm8k", "uri": f"hub:{folder}", "split": "dev"}], tmp_path)
    assert len(dev) == 2
    (folder / "validation.jsonl").unlink()
    with pytest.raises(ParameterError, match="the splits of"):
        collect("benchmarks", [{"adapter": "gsm8k", "uri": f"hub:{folder}", "split": "dev"}], tmp_path)
    with pytest.raises(InputError, match="cannot be loaded"):
        collect("seeds", [{"adapter": "gsm8k", "uri": f"hub:{tmp_path / 'none'}"}], tmp_path)


def test_real_seeds_and_their_held_out_part(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTORLOOP_DATA", str(shared_data))
    gsm8k = {"adapter": "gsm8k", "uri": "{data}/gsm8k", "dev_share": 0.1}
    seeds, stage = collect("seeds", [gsm8k, {"adapter": "draw", "uri": "{data}/draw"}], tmp_path)
    dev, _ = collect("benchmarks", [{**gsm8k, "split": "train"}], tmp_path)
    assert stage.counts["rows_gsm8k"] + len(dev) == 7473
    assert stage.counts["rows_draw"] + stage.dropped["duplicate"] + stage.dropped.get("duplicate_with_other_answer", 0) == 600
    assert not ids(seeds) & ids(dev)
    assert all(problem.id == problem_id(problem.question) for problem in seeds)


def test_version_follows_the_content_behind_an_unchanged_uri(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    options = SeedsOptions(sources=[SourceOptions(adapter="jsonl", uri=str(path), licence="x"), SourceOptions(adapter="builtin", count=3)])
    path.write_text('{"question": "One and one?", "answer": "2"}\n')
    first = sources_version(options, "seeds")
    assert sources_version(options, "seeds") == first
    path.write_text('{"question": "One and two?", "answer": "3"}\n')
    assert sources_version(options, "seeds") != first
    path.unlink()
    with pytest.raises(InputError, match=r"train\.jsonl"):
        sources_version(options, "seeds")
