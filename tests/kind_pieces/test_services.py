"""What is asked of Prometheus, Alertmanager and teacher, of real ones that real tasks report to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.core.metrics import pushgateway, telemetry
from components.core.stage import stage_run
from components.offline_teacher.background import start_background
from tests.kind.commands import CommandError, wait_until
from tests.kind.services import Alertmanager, Prometheus, Teacher, ask
from tests.kind_pieces.conftest import Direct
from tests.monitoring import files
from tests.monitoring.test_integration import rendered_config
from tests.support.ports import NOBODY
from tests.support.prometheus import running


@dataclass(frozen=True)
class Monitoring:
    """The three servers; ``server`` is the address of Prometheus."""

    server: str
    prometheus: Prometheus
    alertmanager: Alertmanager
    gateway: str


@pytest.fixture(scope="module")
def monitoring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitoring]:
    """Real servers with the rules of the repository."""
    folder = tmp_path_factory.mktemp("monitoring")
    with contextlib.ExitStack() as servers:
        gateway = servers.enter_context(running("pushgateway", folder / "pushgateway", f"--persistence.file={folder / 'groups'}"))
        arguments = [f"--config.file={files.ALERTMANAGER}", f"--storage.path={folder / 'silences'}", "--cluster.listen-address="]
        manager = servers.enter_context(running("alertmanager", folder / "alertmanager", *arguments))
        config = rendered_config(folder, gateway, manager)
        server = servers.enter_context(
            running("prometheus", folder / "prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'series'}")
        )
        yield Monitoring(server, Prometheus(Direct(server)), Alertmanager(Direct(manager)), gateway)


def test_a_runs_figures_and_a_failed_runs_alert_arrive(monitoring: Monitoring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushgateway, "TIMEOUT_S", 60.0)
    monkeypatch.setenv("TUTORLOOP_PUSH_LAST_WAIT_S", "120")
    monkeypatch.setenv("TUTORLOOP_PUSHGATEWAY", monitoring.gateway)
    monkeypatch.setenv("TUTORLOOP_PIPELINE", "orca-math-tiny")
    monkeypatch.setenv("TUTORLOOP_RUN", "run-1")
    with stage_run("sft"):
        pass
    telemetry.run_end("run-1", failed=True, seconds=3.0)
    [series] = wait_until(
        "the run", lambda: monitoring.prometheus.query('tutorloop_run_failed{run="run-1",pipeline="orca-math-tiny"}'), 120, every=0.2
    )
    assert series.value == 1 and series.labels["run"] == "run-1"
    assert monitoring.prometheus.query('tutorloop_run_failed{run="another"}') == []
    found = wait_until("the alert", lambda: monitoring.alertmanager.alerts("TutorLoopRunFailed"), 120, every=0.2)
    assert [labels["run"] for labels in found] == ["run-1"]
    assert monitoring.alertmanager.alerts("NoSuchAlert") == []


def test_rules_and_targets_that_are_well_are_no_trouble(monitoring: Monitoring) -> None:
    wait_until("the first scrape", lambda: not monitoring.prometheus.unhealthy_targets(), 120, every=0.2)
    assert monitoring.prometheus.broken_rules() == []


def test_a_target_that_is_away_is_named(tmp_path: Path) -> None:
    config = tmp_path / "prometheus.yml"
    config.write_text(
        f"global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: gone, static_configs: [{{targets: ['{NOBODY}']}}]}}]\n"
    )
    with running("prometheus", tmp_path / "server", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'series'}") as server:
        prometheus = Prometheus(Direct(server))
        [said] = wait_until(
            "a failed scrape", lambda: [line for line in prometheus.unhealthy_targets() if "refused" in line], 120, every=0.2
        )
        assert said.startswith(f"gone http://{NOBODY}/metrics")
        assert prometheus.broken_rules() == ["there are no rules at all"]


def test_a_query_that_is_refused_is_told_at_once(monitoring: Monitoring) -> None:
    way = Direct(monitoring.server)
    with pytest.raises(CommandError, match="400 .*parse error"):
        Prometheus(way).query("sum(")
    assert way.repeated == 0


def test_a_service_that_is_away_is_asked_again_another_way_and_named_in_the_end() -> None:
    way = Direct(f"http://{NOBODY}", name="prometheus.tutorloop:9090")
    with pytest.raises(CommandError, match=r"prometheus\.tutorloop:9090/api: URLError.*refused"):
        ask(way, "/api", patience_s=1.5)
    assert way.repeated >= 1


def test_the_teacher_tells_what_it_was_paid_for() -> None:
    import json
    import urllib.request

    with start_background() as running_teacher:
        teacher = Teacher(Direct(running_teacher.url.removesuffix("/v1")))
        before = teacher.paid()
        body = {"model": "offline-teacher", "messages": [{"role": "user", "content": "2 + 3?"}]}
        request = urllib.request.Request(
            f"{running_teacher.url}/chat/completions", data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=30).close()
        assert teacher.paid() == before + 1
