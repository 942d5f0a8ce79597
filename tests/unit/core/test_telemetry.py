"""Metrics of tasks and runs: the text files, a real Pushgateway, and one that is not there."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
from prometheus_client.parser import text_string_to_metric_families

from components.core.errors import InputError
from components.core.metrics import pushgateway as gateway_module
from components.core.metrics import telemetry
from components.core.metrics.settings import Settings
from components.core.records import Score
from components.core.stage import stage_run
from components.promotion.options import PromotionOptions
from components.promotion.records import PairedComparison
from components.teacher.metrics import TeacherMetrics
from tests.support.ports import closed_port
from tests.support.prometheus import pushed, pushgateway
from tests.support.waiting import wait_until
from tests.unit.stages.test_promotion_registry import material

__all__ = ["pushgateway"]

pytestmark = pytest.mark.timeout(300)


class Artifact:
    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {}


@pytest.fixture(autouse=True)
def metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the text files; nothing is pushed unless a test says where."""
    for name in ("", "_USER", "_PASSWORD"):
        monkeypatch.delenv(f"TUTORLOOP_PUSHGATEWAY{name}", raising=False)
    monkeypatch.setenv("TUTORLOOP_METRICS_DIR", str(tmp_path / "metrics"))
    monkeypatch.setenv("TUTORLOOP_RUN", "run-1")
    return tmp_path / "metrics"


@pytest.fixture
def gateway(pushgateway: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A real one, with patience for it that outlasts a busy machine."""
    monkeypatch.setattr(gateway_module, "TIMEOUT_S", 60.0)
    monkeypatch.setenv("TUTORLOOP_PUSH_LAST_WAIT_S", "120")
    monkeypatch.setenv("TUTORLOOP_PUSHGATEWAY", pushgateway)
    monkeypatch.setenv("TUTORLOOP_PUSH_INTERVAL_S", "0.05")
    return pushgateway


def samples(path: Path) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Metric to labels and value of its samples."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(path.read_text()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return found


def group_values(gateway: str, **labels: str) -> dict[str, float]:
    """Metric to its first value, of the one group that has these labels."""
    [group] = [item for item in pushed(gateway) if labels.items() <= item["labels"].items()]
    metrics = {name: family["metrics"] for name, family in group.items() if isinstance(family, dict) and "metrics" in family}
    return {name: float(values[0]["value"]) for name, values in metrics.items() if "value" in values[0]}


# The text file


def test_a_task_leaves_its_figures_as_text(metrics: Path, tmp_path: Path) -> None:
    before = time.time()
    with stage_run("sampling", Artifact(), task="sampling M1", shard="1/2") as stage:
        stage.rows_in, stage.rows_kept = 10, 7
        stage.drop("too_long", 3)
        stage.latest.update(loss=0.5, learning_rate=1e-4, tokens_per_second=321.0)
        stage.scores.append(Score(model="M1", benchmark="held-out dev", n=10, pass_at_1=0.4, low=0.2, high=0.6))
        stage.progress(4, 8)
    found = samples(metrics / "sampling-M1-1-2.prom")
    labels = {"pipeline": "none", "run": "run-1", "stage": "sampling", "task": "sampling M1", "shard": "1/2"}
    for name, more, value in [
        ("rows_in", {}, 10),
        ("rows_kept", {}, 7),
        ("rows_dropped", {"reason": "too_long"}, 3),
        ("stage_running", {}, 0),
        ("stage_failed", {}, 0),
        ("stage_left_out", {}, 0),
        ("stage_progress_ratio", {}, 1),
        ("training_loss", {}, 0.5),
        ("training_learning_rate", {}, 1e-4),
        ("tokens_per_second", {}, 321),
        ("accuracy_ratio", {"model": "M1", "benchmark": "held-out dev"}, 0.4),
    ]:
        assert found[f"tutorloop_{name}"] == [({**labels, **more}, value)], name
    [(_, seconds)] = found["tutorloop_stage_seconds"]
    [(_, advanced)] = found["tutorloop_stage_last_progress_timestamp_seconds"]
    [(device, memory)] = found["tutorloop_memory_peak_bytes"]
    after = time.time()
    assert 0 < seconds <= after - before and before <= advanced <= after
    assert device["device"] == "cpu" and 2**20 < memory < 2**40
    assert not list(metrics.glob("*.prom.*")), "written under a temporary name, then renamed"


def test_a_failed_task_says_so_and_how_far_it_came(metrics: Path) -> None:
    with pytest.raises(ZeroDivisionError), stage_run("judging") as stage:
        stage.progress(1, 4)
        _ = 1 // 0
    found = samples(metrics / "judging-0-1.prom")
    assert [found[f"tutorloop_stage_{name}"][0][1] for name in ("failed", "running", "progress_ratio")] == [1, 0, 0.25]
    with pytest.raises(SystemExit), stage_run("judging"):
        raise InputError("is empty", "rows.jsonl")
    assert samples(metrics / "judging-0-1.prom")["tutorloop_stage_failed"][0][1] == 1


def test_only_getting_further_is_progress(metrics: Path) -> None:
    """A task that reports the same figure again and again is stuck."""
    with stage_run("solving") as stage:
        stage.progress(3, 10)
        advanced = stage.advanced_at
        time.sleep(0.05)
        stage.progress(3, 10)
        assert stage.advanced_at == advanced
        stage.progress(4, 10)
        assert stage.advanced_at > advanced
    [(_, value)] = samples(metrics / "solving-0-1.prom")["tutorloop_stage_last_progress_timestamp_seconds"]
    assert value == stage.advanced_at


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TUTORLOOP_METRICS_DIR")
    monkeypatch.chdir(tmp_path)
    with stage_run("seeds"):
        assert not [thread for thread in threading.enumerate() if thread.name == "metrics"]
    assert list(tmp_path.iterdir()) == []


def test_the_teachers_metrics_are_in_the_tasks_file(metrics: Path) -> None:
    with stage_run("solving") as stage:
        teacher = TeacherMetrics(stage)
        teacher.attempt("answered")
        teacher.dollars.inc(0.25)
        teacher.budget("max_usd", 0.8, 5.0)
        teacher.budget("max_tokens_per_day", 0.25, 750.0)
        teacher.window(7)
        teacher.circuit(True)
        teacher.shared_waits.inc()
    with stage_run("judging"):
        pass
    found = samples(metrics / "solving-0-1.prom")
    assert found["tutorloop_teacher_requests_total"][0][1] == 1 and found["tutorloop_teacher_usd_total"][0][1] == 0.25
    for name, values in {"used_ratio": {0.8, 0.25}, "left": {5.0, 750.0}}.items():
        limits = {labels["limit"]: value for labels, value in found[f"tutorloop_teacher_budget_{name}"]}
        assert set(limits) == {"max_usd", "max_tokens_per_day"} and set(limits.values()) == values
    for name, value in {"window": 7, "circuit_open": 1, "shared_waits_total": 1}.items():
        assert found[f"tutorloop_teacher_{name}"][0][1] == value
    assert not [name for name in found if name.endswith("_created")]
    assert "solving" not in (metrics / "judging-0-1.prom").read_text(), "a file holds one task"


def test_a_task_that_left_its_work_out_says_so(metrics: Path) -> None:
    with stage_run("preference_tuning", task="tuning M2 preference") as stage:
        stage.left_out = "there is no pair"
    found = samples(metrics / "tuning-M2-preference-0-1.prom")
    assert [found[f"tutorloop_stage_{name}"][0][1] for name in ("left_out", "failed", "running")] == [1, 0, 0]


# Bounded cardinality


def test_reasons_and_outcomes_are_bounded(metrics: Path) -> None:
    with stage_run("solving") as stage:
        teacher = TeacherMetrics(stage)
        for number in range(telemetry.MAX_VALUES + 20):
            stage.drop(f"reason_{number:03d}")
            teacher.attempt(f"outcome_{number:03d}")
        stage.drop("not a name\nbut a message", 5)
    found = samples(metrics / "solving-0-1.prom")
    for name, label, rest in (("rows_dropped", "reason", 25), ("teacher_requests_total", "outcome", 20)):
        values = {labels[label]: value for labels, value in found[f"tutorloop_{name}"]}
        assert len(values) == telemetry.MAX_VALUES + 1 and values[telemetry.OTHER] == rest


def test_more_benchmarks_than_the_limit_are_left_out_rather_than_mixed(metrics: Path) -> None:
    with stage_run("evaluation") as stage:
        for number in range(telemetry.MAX_VALUES + 5):
            stage.scores.append(Score(model="M1", benchmark=f"b{number}", n=1, pass_at_1=0.5, low=0, high=1))
    found = samples(metrics / "evaluation-0-1.prom")["tutorloop_accuracy_ratio"]
    assert len(found) == telemetry.MAX_VALUES and telemetry.OTHER not in {labels["benchmark"] for labels, _ in found}


def test_every_task_has_the_whole_limit(metrics: Path) -> None:
    for stage_name in ("first", "second"):
        with stage_run(stage_name) as stage:
            for number in range(telemetry.MAX_VALUES):
                stage.drop(f"{stage_name}_{number}")
    reasons = {labels["reason"] for labels, _ in samples(metrics / "second-0-1.prom")["tutorloop_rows_dropped"]}
    assert len(reasons) == telemetry.MAX_VALUES and telemetry.OTHER not in reasons


# The gateway


def test_a_task_is_pushed_while_it_works_and_when_it_ends(gateway: str) -> None:
    with stage_run("sft", task="sft") as stage:
        stage.progress(1, 4)
        wait_until(lambda: pushed(gateway) and group_values(gateway)["tutorloop_stage_progress_ratio"] == 0.25)
        assert group_values(gateway)["tutorloop_stage_running"] == 1
        before = group_values(gateway)["push_time_seconds"]
        wait_until(lambda: group_values(gateway)["push_time_seconds"] > before)
    [group] = pushed(gateway)
    assert group["labels"] == {"job": "tutorloop", "pipeline": "none", "run": "run-1", "task": "sft", "shard": "0/1"}
    values = group_values(gateway)
    assert values["tutorloop_stage_running"] == 0 and values["tutorloop_stage_progress_ratio"] == 1
    assert values["push_failure_time_seconds"] == 0


def test_a_retried_task_replaces_its_failure(gateway: str) -> None:
    with pytest.raises(ZeroDivisionError), stage_run("solving", shard="1/2") as stage:
        stage.drop("duplicate")
        _ = 1 // 0
    assert group_values(gateway)["tutorloop_stage_failed"] == 1
    with stage_run("solving", shard="1/2"):
        wait_until(lambda: group_values(gateway)["tutorloop_stage_failed"] == 0)
        assert "tutorloop_rows_dropped" not in group_values(gateway), "nothing of the failed attempt stays"
    assert group_values(gateway)["tutorloop_stage_failed"] == 0


def test_a_newer_run_removes_what_the_older_one_left(gateway: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for task, shard in (("sft", "0/1"), ("judging", "0/2"), ("judging", "1/2")):
        with stage_run(task, task=task, shard=shard):
            pass
    monkeypatch.setenv("TUTORLOOP_RUN", "run-2")
    with stage_run("judging", task="judging"):
        wait_until(lambda: {item["labels"]["run"] for item in pushed(gateway) if item["labels"]["task"] == "judging"} == {"run-2"})
    left = {(item["labels"]["run"], item["labels"]["task"], item["labels"]["shard"]) for item in pushed(gateway)}
    assert left == {("run-1", "sft", "0/1"), ("run-2", "judging", "0/1")}


def group(run: str, task: str, age: float, *, running: bool = False, failed: bool = False, pipeline: str = "p") -> gateway_module.Group:
    return gateway_module.Group({"pipeline": pipeline, "run": run, "task": task, "shard": "0/1"}, 1e9 - age, running, failed)


DAY = 86_400
STALE = [
    group("a", "sft", 10),
    group("a", "sft", 600, running=True),
    group("a", "x", DAY + 1, running=True),
    group("a", "x", DAY + 1, failed=True),
]
KEPT = [
    group("b", "sft", 10),
    group("a", "sft", 10, running=True),
    group("a", "sft", 10, pipeline="q"),
    group("a", "x", 600, running=True),
    group("a", "x", 600, failed=True),
    group("a", "x", 30 * DAY),
    gateway_module.Group({"pipeline": "p"}, 0.0, False, False),
]


def test_which_groups_are_stale() -> None:
    """Live tasks of a run beside this one stay, and so does what outlives runs."""
    assert gateway_module.stale_groups([*KEPT, *STALE], "p", "b", "sft", 1e9) == STALE


def test_which_groups_the_end_of_a_run_removes() -> None:
    mine = [group("b", "sft", 1, running=True), group("b", "x", 1, failed=True)]
    assert gateway_module.groups_left_by([*KEPT, *mine], "p", "b", succeeded=False) == mine[:1]
    assert gateway_module.groups_left_by([*KEPT, *mine], "p", "b", succeeded=True) == [mine[0], KEPT[4]]


def test_the_end_of_a_run_is_pushed_and_written(gateway: str, metrics: Path) -> None:
    with pytest.raises(ZeroDivisionError), stage_run("sft"):
        _ = 1 // 0
    telemetry.run_end("run-1", failed=True, seconds=12.5, folder=metrics)
    assert group_values(gateway, pipeline="none", task="sft")["tutorloop_stage_failed"] == 1
    whole = {"job": "tutorloop", "pipeline": "none"}
    [of_pipeline] = [item for item in pushed(gateway) if item["labels"] == whole]
    assert of_pipeline["tutorloop_run_failed"]["metrics"][0]["labels"]["run"] == "run-1"
    assert of_pipeline["tutorloop_run_failed"]["metrics"][0]["value"] == "1"
    assert samples(metrics / "run.prom")["tutorloop_run_seconds"] == [({"pipeline": "none", "run": "run-1"}, 12.5)]
    telemetry.run_end("run-2", failed=False, seconds=1.0, folder=metrics)
    [only] = pushed(gateway)
    assert only["labels"] == whole, "a run that ended well clears what failed before it"
    assert [metric["labels"]["run"] for metric in only["tutorloop_run_failed"]["metrics"]] == ["run-2"]


def test_a_gateway_that_is_down_is_said_once_and_costs_nothing(
    metrics: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TUTORLOOP_PUSH_INTERVAL_S", "0.01")
    with closed_port() as port:
        monkeypatch.setenv("TUTORLOOP_PUSHGATEWAY", f"http://127.0.0.1:{port}")
        with stage_run("seeds"):
            time.sleep(0.3)
        assert capsys.readouterr().err.count("metrics are not published, the work goes on") == 1
        assert samples(metrics / "seeds-0-1.prom")["tutorloop_stage_running"][0][1] == 0
        telemetry.run_end("run-1", failed=False, seconds=1.0, folder=metrics)


def publishing() -> bool:
    return any(thread.name == "metrics" for thread in threading.enumerate())


def test_a_gateway_that_hangs_does_not_hold_up_the_stage(metrics: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It accepts connections and never answers."""
    monkeypatch.setattr(gateway_module, "TIMEOUT_S", 60.0)
    monkeypatch.setenv("TUTORLOOP_PUSH_LAST_WAIT_S", "0.2")
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("TUTORLOOP_PUSHGATEWAY", f"http://127.0.0.1:{server.getsockname()[1]}")
        with stage_run("seeds") as stage:
            stage.progress(1, 2, force=True)
        assert publishing(), "the stage did not wait for the end of the call"
        assert samples(metrics / "seeds-0-1.prom")["tutorloop_stage_running"][0][1] == 0, "the file is written all the same"
    # What its thread would still write is not to come into another test's registry.
    wait_until(lambda: not publishing())


@pytest.fixture
def time_outs(monkeypatch: pytest.MonkeyPatch) -> list[OSError]:
    """As long as there are some, the gateway's calls raise them instead of doing their work."""
    errors: list[OSError] = []

    def overtaxed(call: Any) -> Any:
        def attempt(*arguments: Any) -> None:
            if errors:
                raise errors.pop()
            call(*arguments)

        return attempt

    for name in ("replace", "update"):
        monkeypatch.setattr(gateway_module.Gateway, name, overtaxed(getattr(gateway_module.Gateway, name)))
    return errors


SLOW = (TimeoutError(), URLError(TimeoutError()))


def test_the_last_push_is_repeated_when_the_gateway_is_too_slow(
    gateway: str, time_outs: list[OSError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUTORLOOP_PUSH_INTERVAL_S", "3600")
    with stage_run("seeds"):
        wait_until(lambda: pushed(gateway))
        time_outs += SLOW
    assert group_values(gateway)["tutorloop_stage_running"] == 0


def test_the_end_of_a_run_is_pushed_again_when_the_gateway_is_too_slow(gateway: str, time_outs: list[OSError]) -> None:
    time_outs += SLOW
    telemetry.run_end("run-1", failed=True, seconds=1.0)
    [group] = pushed(gateway)
    assert group["tutorloop_run_failed"]["metrics"][0]["value"] == "1"


@pytest.mark.parametrize("failed", [False, True])
def test_the_end_of_a_sync_is_pushed_again_when_the_gateway_is_too_slow(gateway: str, time_outs: list[OSError], failed: bool) -> None:
    from pipelines.sync.metrics import publish as publish_sync
    from pipelines.sync.reconcile import Outcome

    time_outs += SLOW
    publish_sync([], Outcome(), failed=failed)
    [group] = pushed(gateway)
    assert group["tutorloop_sync_failed"]["metrics"][0]["value"] == str(int(failed))


def test_a_gateway_that_stays_too_slow_is_given_up(gateway: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def overtaxed(*ignored: Any) -> None:
        time.sleep(0.01)
        raise TimeoutError

    monkeypatch.setenv("TUTORLOOP_PUSH_LAST_WAIT_S", "0.2")
    monkeypatch.setattr(gateway_module.Gateway, "replace", overtaxed)
    with stage_run("seeds"):
        pass
    wait_until(lambda: not publishing())


def test_a_full_disk_keeps_nothing_from_the_gateway(gateway: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TUTORLOOP_METRICS_DIR", str(tmp_path / "file"))
    with stage_run("seeds"):
        pass
    assert group_values(gateway)["tutorloop_stage_running"] == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TUTORLOOP_PUSHGATEWAY", "http://someone:hush-hush@host:9091"),
        ("TUTORLOOP_PUSHGATEWAY", "host:9091"),
        ("TUTORLOOP_PUSH_INTERVAL_S", "often"),
        ("TUTORLOOP_PUSH_INTERVAL_S", "0"),
        ("TUTORLOOP_RETRAINING_PERIOD_S", "nan"),
    ],
)
def test_a_wrong_setting_is_refused_before_any_work(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit), stage_run("seeds"):
        pytest.fail("the work began")
    error = capsys.readouterr().err
    assert name in error and "allowed: " in error and "hush-hush" not in error


def test_credentials_are_sent_and_said_nowhere(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    heads: list[bytes] = []
    monkeypatch.setattr(gateway_module, "TIMEOUT_S", 60.0)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(2):
                connection, _ = server.accept()
                with connection:
                    heads.append(connection.recv(65_536))
                    connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        monkeypatch.setenv("TUTORLOOP_PUSHGATEWAY", f"http://127.0.0.1:{server.getsockname()[1]}/gateway/")
        monkeypatch.setenv("TUTORLOOP_PUSHGATEWAY_USER", "pusher")
        monkeypatch.setenv("TUTORLOOP_PUSHGATEWAY_PASSWORD", "hush-hush-hush")
        gateway = Settings.from_environment().gateway
        assert gateway is not None and "hush" not in repr(gateway)
        for call in (lambda: gateway.remove({"run": "r"}), gateway.groups):
            with pytest.raises(gateway_module.UNREACHABLE):
                call()
        thread.join(60)
    assert [head.split()[1] for head in heads] == [b"/gateway/metrics/job/tutorloop/run/r", b"/gateway/api/v1/metrics"]
    assert all(b"Authorization: Basic cHVzaGVyOmh1c2gtaHVzaC1odXNo\r\n" in head for head in heads)


# What outlives a run


def publish(folder: Path, models: Path, *, promoted: bool, champion: str = "", fail: bool = False) -> str:
    """The body of the publishing task, with 12 of 20 for the candidate, 5 for M0 and 9 for the champion."""
    import msgspec

    from components.promotion.records import Decision
    from components.promotion.stage import publish as run

    made = material(folder, promoted=promoted, champion=champion)
    decision = msgspec.json.decode(made.decision.read_bytes(), type=Decision)
    comparisons = [comparison("M0", 5)] + ([comparison(champion, 9)] if champion else [])
    made.decision.write_bytes(msgspec.json.encode(msgspec.structs.replace(decision, comparisons=comparisons)))
    with stage_run("promotion", Artifact(), task="publishing") as stage:
        version = run(made, PromotionOptions(), str(models), "sha256:p", folder / "card.json", stage)
        assert not fail
    return version


def comparison(opponent: str, right: int) -> PairedComparison:
    return PairedComparison(
        opponent=opponent, n=20, candidate_accuracy=0.6, opponent_accuracy=right / 20, gain=0.6 - right / 20,
        low=0.0, high=0.5, p_value=0.01, only_candidate=12 - right, only_opponent=0,
    )  # fmt: skip


def test_the_champions_score_is_that_after_the_decision(metrics: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def accuracies() -> tuple[float, float | None]:
        found = samples(metrics / "pipeline.prom")
        assert found["tutorloop_promotion_problems"][0][1] == 20
        champion = found.get("tutorloop_champion_accuracy_ratio")
        return found["tutorloop_candidate_accuracy_ratio"][0][1], champion[0][1] if champion else None

    monkeypatch.setenv("TUTORLOOP_RUN", "none-yet")
    publish(tmp_path / "a", tmp_path / "models", promoted=False)
    assert accuracies() == (0.6, None), "there is no champion"
    monkeypatch.setenv("TUTORLOOP_RUN", "promoted")
    version = publish(tmp_path / "b", tmp_path / "models", promoted=True)
    assert accuracies() == (0.6, 0.6)
    monkeypatch.setenv("TUTORLOOP_RUN", "kept")
    publish(tmp_path / "c", tmp_path / "models", promoted=False, champion=version)
    assert accuracies() == (0.6, 0.45)


def test_a_good_retraining_outlives_its_run(gateway: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTORLOOP_RETRAINING_PERIOD_S", "604800")
    publish(tmp_path / "a", tmp_path / "models", promoted=True)
    whole = {"job": "tutorloop", "pipeline": "none"}

    def lasting() -> dict[str, float]:
        [found] = [item for item in pushed(gateway) if item["labels"] == whole]
        return {
            f"{name} {family['metrics'][0]['labels']['run']}": float(family["metrics"][0]["value"])
            for name, family in found.items()
            if name.startswith("tutorloop_")
        }

    first = lasting()
    assert first["tutorloop_retraining_period_seconds run-1"] == 604800
    assert first["tutorloop_champion_accuracy_ratio run-1"] == 0.6
    assert abs(first["tutorloop_last_good_retraining_timestamp_seconds run-1"] - time.time()) < 60
    monkeypatch.setenv("TUTORLOOP_RUN", "run-2")
    with pytest.raises(AssertionError):
        publish(tmp_path / "b", tmp_path / "models", promoted=False, fail=True)
    assert lasting() == first, "a publishing task that failed is no good retraining"
    telemetry.run_end("run-2", failed=True, seconds=1.0, folder=tmp_path)
    assert lasting().items() >= first.items(), "the end of a run leaves it alone"
    publish(tmp_path / "c", tmp_path / "models", promoted=False)
    name = "tutorloop_last_good_retraining_timestamp_seconds"
    assert f"{name} run-1" not in lasting() and lasting()[f"{name} run-2"] > first[f"{name} run-1"]
    assert lasting()["tutorloop_champion_accuracy_ratio run-1"] == 0.6, "it stays the champion's until another measurement replaces it"
