"""Broken files, a Kubeflow that is away, refuses or loses answers, and metrics of all that."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from components.core.metrics import pushgateway
from pipelines.kubeflow import calls
from tests.kubeflow.cluster import Refusal
from tests.kubeflow.git import Git
from tests.kubeflow.server import Double, Lost, serving
from tests.support import prometheus
from tests.support.ports import closed_port


def named(double: Double, name: str) -> list[dict[str, Any]]:
    return double.cluster.jobs_named(name)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"crn": "0 0 3 * * 1"}, "schedule.crn"),
        ({"cron": "0 3 * * 1"}, "5 fields instead of 6"),
        ({"cron": "0 0 0 30 2 *"}, "day-of-month"),
        ({"cron": "0 0 0 * * 7"}, "0 (Sunday) to 6"),
        ({"profile": "tny"}, "one of gsm8k_small, orca_math_7b, tiny"),
        ({"profile": "/etc/profile.yaml"}, "one of gsm8k_small"),
        ({"parameters": {"sft.learning_rat": 1}}, "sft.learning_rat"),
        ({"parameters": {"sft.learning_rate": "fast"}}, "sft.learning_rate"),
        ({"stores": {"responses": "s3://r"}}, "schedule.stores"),
        ({"parameters": {"sampling_shards": 4}}, "compiled into the package"),
        ({"max_concurrency": 11}, "max_concurrency"),
        ({"name": "Weekly retraining"}, "schedule.name"),
        ({"description": "d" * 121}, "schedule.description"),
        ({"enabled": "yes please"}, "schedule.enabled"),
    ],
)
def test_a_wrong_schedule_is_told_and_keeps_nothing_from_the_others(git: Git, double: Double, changes: dict[str, Any], reason: str) -> None:
    git.schedule("wrong")
    git.sync(double.url)
    git.schedule("wrong", **changes)
    git.schedule("right")
    done = git.sync(double.url, "--prune", code=1)
    assert "wrong.yaml" in done.stderr and reason in done.stderr and "what to do" in done.stderr
    assert named(double, "right")[0]["status"] == "ENABLED"
    assert named(double, "wrong")[0]["status"] == "ENABLED", "nobody said that it should go"


def test_files_that_are_no_schedules(git: Git, double: Double) -> None:
    (git.schedules / "list.yaml").write_text("- 1\n")
    (git.schedules / "broken.yaml").write_text("name: a\n  cron: [\n")
    (git.schedules / "several.yaml").write_text("name: a\n---\nname: b\n")
    (git.schedules / "kustomization.yaml").write_text("resources: [job.yaml]\n")
    (git.schedules / "job.yaml").write_text("{apiVersion: batch/v1, kind: Job}\n---\n{apiVersion: batch/v1, kind: CronJob}\n")
    (git.schedules / "empty.yaml").write_text("")
    git.schedule("twin").rename(git.schedules / "first.yaml")
    git.schedule("twin")
    told = git.sync(double.url, code=1).stderr
    assert all(
        name in told for name in ("list.yaml", "empty.yaml", "broken.yaml, line 2", "several.yaml", "several schedules are called 'twin'")
    )
    assert "kustomization" not in told and "job.yaml" not in told and not named(double, "twin")
    assert named(double, "weekly")


def test_folders_that_are_not_there(git: Git, double: Double, tmp_path: Path) -> None:
    git.schedules.rename(tmp_path / "elsewhere")
    failed = git.sync(double.url, code=1)
    assert "no such folder of schedules" in str(failed.exception) + failed.output
    assert not double.calls


def test_a_package_with_symbolic_images_is_refused(git: Git, double: Double) -> None:
    git.sync(double.url)
    with (git.packages / "orca-math-tiny.yaml").open("a") as package:
        package.write("# tutorloop/trainer-python:symbolic\n")
    git.schedule("other", cron="0 0 4 * * 1")
    double.forget()
    told = git.sync(double.url, code=1).stderr
    assert "tutorloop/trainer-python:symbolic" in told and "tutorloop images build" in told and "tutorloop release" in told
    assert not double.changes and named(double, "weekly")[0]["status"] == "ENABLED"


@pytest.mark.parametrize("text", ["", "just text", "a: [", "pipelineInfo: {name: p}\n"])
def test_what_is_no_package_is_refused(git: Git, double: Double, text: str) -> None:
    (git.packages / "other.yaml").write_text(text)
    assert "other.yaml: not a compiled pipeline" in git.sync(double.url, code=1).stderr
    assert named(double, "weekly")[0]["status"] == "ENABLED"


def test_a_package_that_takes_other_parameters_is_told(git: Git, double: Double) -> None:
    inputs = {"parameters": {"seeds": {"parameterType": "STRUCT"}, "moon": {"parameterType": "STRING"}}}
    git.package("odd", root={"inputDefinitions": inputs})
    git.schedule("odd", pipeline="odd")
    git.schedule("lost", pipeline="nowhere")
    told = git.sync(double.url, code=1).stderr
    assert "the package also needs moon" in told and "has no input" in told and "no usable package nowhere.yaml" in told
    assert named(double, "weekly") and not named(double, "odd")


def test_answers_that_get_lost_make_nothing_twice(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call is carried out, and its first answer does not arrive."""
    monkeypatch.setattr(calls, "FIRST_WAIT_S", 0.02)
    git.schedule("paused", enabled=False)
    with serving() as clean:
        git.sync(clean.url)
        expected = clean.cluster.summary()
    with serving() as fresh:
        lost: set[tuple[str, str]] = set()

        def losing(number: int, moment: str) -> None:
            call = fresh.calls[-1]
            if moment == "done" and call not in lost:
                lost.add(call)
                raise Lost

        fresh.accident = losing
        git.sync(fresh.url)
        assert fresh.cluster.summary() == expected and len(lost) >= 8 and not fresh.cluster.doubled


def test_a_hiccup_is_waited_for(git: Git, double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "FIRST_WAIT_S", 0.02)
    met: set[tuple[str, str]] = set()

    def hiccup(number: int, moment: str) -> None:
        call = double.calls[-1]
        if moment == "before" and call not in met:
            met.add(call)
            raise Refusal(503 if len(met) % 2 else 500, "Service unavailable")

    double.accident = hiccup
    git.sync(double.url)
    assert named(double, "weekly")[0]["status"] == "ENABLED" and len(met) >= 8


def test_what_kubeflow_refuses_for_one_schedule_is_told_and_the_others_are_done(git: Git, double: Double) -> None:
    git.schedule("another", experiment="forbidden")

    def refuse(number: int, moment: str) -> None:
        if moment == "before" and double.calls[-1] == ("POST", "/apis/v2beta1/experiments") and number < 100:
            raise Refusal(403, "User is not authorized")

    git.sync(double.url, "--dry-run")
    double.cluster.create_experiment({"display_name": "retraining"})
    double.accident = refuse
    told = git.sync(double.url, code=1).stderr
    assert "does not create the experiment forbidden (403): User is not authorized" in told and "--namespace" in told
    assert named(double, "weekly")[0]["status"] == "ENABLED" and not named(double, "another")


def test_a_kubeflow_that_keeps_something_else_does_not_replace_for_ever(git: Git, double: Double) -> None:
    git.sync(double.url)
    kept = named(double, "weekly")

    def normalise(number: int, moment: str) -> None:
        if moment == "answered" and double.calls[-1] == ("POST", "/apis/v2beta1/recurringruns"):
            named(double, "weekly")[-1]["trigger"] = {"cron_schedule": {"cron": "0 0 4 ? * 1"}}

    git.schedule(cron="0 0 4 * * 1")
    double.accident = normalise
    assert "keeps something else than it is given" in git.sync(double.url, code=1).stderr
    assert named(double, "weekly") == kept


def test_a_kubeflow_that_is_away_is_told_and_waited_for(git: Git) -> None:
    with closed_port() as port:
        url = f"http://127.0.0.1:{port}"
        told = git.sync(url, "--patience", "1", code=1).stderr
    assert f"Kubeflow at {url} is away" in told and "ml-pipeline" in told and "for 1 s" in told


def test_a_kubeflow_that_comes_back_in_time(git: Git, double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "FIRST_WAIT_S", 0.02)

    def away(number: int, moment: str) -> None:
        if moment == "before" and number <= 3:
            raise Lost

    double.accident = away
    git.sync(double.url)
    assert named(double, "weekly")


def test_what_is_not_kubeflow_is_told(git: Git, tmp_path: Path) -> None:
    page = b"<html>log in</html>"

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    told = git.sync(f"http://127.0.0.1:{server.server_address[1]}", code=1).stderr
    server.shutdown()
    server.server_close()
    assert "not the Kubeflow Pipelines API" in told and "--host" in told


def test_a_token_is_read_anew_for_each_call(git: Git, double: Double, tmp_path: Path) -> None:
    token = tmp_path / "token"
    double.token = "first"
    assert "--token-file" in git.sync(double.url, code=1).stderr
    token.write_text("first\n")

    def rotate(number: int, moment: str) -> None:
        if moment == "answered":
            double.token = f"token-{number}"
            token.write_text(double.token)

    def before_answer(number: int, moment: str) -> None:
        if moment == "done":
            rotate(number, "answered")

    double.accident = before_answer
    git.sync(double.url, "--token-file", str(token))
    assert named(double, "weekly")
    token.unlink()
    failed = git.sync(double.url, "--token-file", str(token), code=1)
    assert "no token can be read" in failed.output + str(failed.exception)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Pushgateway."""
    with prometheus.running("pushgateway", tmp_path_factory.mktemp("gateway")) as address:
        yield address


def metrics(gateway: str) -> dict[tuple[str, str], float]:
    """Metric and schedule to value, of the sync's group."""
    with urlopen(f"{gateway}/metrics") as response:
        families = list(text_string_to_metric_families(response.read().decode()))
    return {
        (sample.name.removeprefix("tutorloop_"), sample.labels.get("schedule", "")): sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith("tutorloop_") and sample.labels["job"] == "sync"
    }


def test_metrics_say_what_a_sync_found(git: Git, double: Double, gateway: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTORLOOP_PUSHGATEWAY", gateway)
    monkeypatch.setattr(pushgateway, "TIMEOUT_S", 60.0)
    git.schedule("paused", enabled=False, cron="0 0 1 * * 1-5")
    git.sync(double.url)
    found = metrics(gateway)
    assert found["sync_drift", "weekly"] == 1 and found["sync_failed", ""] == 0
    assert found["schedule_period_seconds", "weekly"] == 7 * 86_400 and found["schedule_period_seconds", "paused"] == 3 * 86_400
    assert found["schedule_enabled", "weekly"] == 1 and found["schedule_enabled", "paused"] == 0
    assert found["schedule_since_timestamp_seconds", "weekly"] == named(double, "weekly")[0]["created_at"]
    good = found["sync_last_success_timestamp_seconds", ""]
    assert abs(good - time.time()) < 60
    git.sync(double.url)
    assert metrics(gateway)["sync_drift", "weekly"] == 0
    git.package(salt="changed")
    git.schedule("paused", cron="bad")
    git.sync(double.url, code=1)
    found = metrics(gateway)
    assert found["sync_failed", ""] == 1 and found["sync_drift", "weekly"] == 1
    assert found["sync_last_success_timestamp_seconds", ""] >= good
    (git.schedules / "paused.yaml").unlink()
    git.sync(double.url)
    found = metrics(gateway)
    assert {name for name, schedule in found if schedule == "paused"} == {"sync_drift"} and found["sync_drift", "paused"] == 0
    double.cluster.delete_job(named(double, "weekly")[0]["recurring_run_id"], "")
    before = metrics(gateway)
    git.sync(double.url, "--dry-run")
    assert metrics(gateway) == before


def test_a_gateway_that_is_away_fails_no_sync(git: Git, double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    with closed_port() as port:
        monkeypatch.setenv("TUTORLOOP_PUSHGATEWAY", f"http://127.0.0.1:{port}")
        assert "metrics are not published" in git.sync(double.url).stderr
