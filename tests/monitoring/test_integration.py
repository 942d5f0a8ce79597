"""The tiny pipeline under real Prometheus, Pushgateway and Alertmanager: every query of dashboard and rules has something to say."""

from __future__ import annotations

import contextlib
import math
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.core.metrics import pushgateway
from components.core.stage import stage_run
from components.core.store import open_store
from components.promotion.registry import promote
from pipelines.kubeflow.keeper_health import Health
from pipelines.sync.metrics import publish
from pipelines.sync.reconcile import Outcome
from pipelines.sync.schedules import read_folder
from tests.conftest import ROOT
from tests.local import command
from tests.monitoring import files
from tests.support.ports import NOBODY
from tests.support.prometheus import get, pushed, running
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(3600)]

SETTINGS = (
    "rounds=1",
    "teacher.prices={offline-teacher: {prompt: 1, completion: 3}}",
    "teacher.max_usd=100",
    "promotion.publish_rejected=true",
)


@dataclass(frozen=True)
class Monitoring:
    """Addresses of the three servers."""

    prometheus: str
    pushgateway: str
    alertmanager: str

    def query(self, expression: str, moment: float | None = None) -> list[float]:
        """The values of all series that an expression gives, now when no other moment is named.

        Raises:
            AssertionError: Prometheus refuses the expression.
        """
        when = {} if moment is None else {"time": f"{moment:.3f}"}
        answer = get(self.prometheus, "/api/v1/query", query=expression, **when)["data"]
        assert answer["resultType"] == "vector", expression
        return [float(series["value"][1]) for series in answer["result"]]


def rendered_config(folder: Path, pushgateway: str, alertmanager: str) -> Path:
    """A copy of the real configuration with other addresses and intervals, without the store and Kubeflow, and nothing else."""
    shutil.copytree(files.FOLDER / "rules", folder / "rules")
    alerts = folder / "rules" / "alerts.yaml"
    alerts.write_text(alerts.read_text().replace("for: 2m", "for: 2s"))
    config = yaml.safe_load(files.PROMETHEUS.read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    [scrape] = config["scrape_configs"] = [job for job in config["scrape_configs"] if job["job_name"] == "pushgateway"]
    [manager] = config["alerting"]["alertmanagers"]
    for where, address in ((scrape, pushgateway), (manager, alertmanager)):
        where["static_configs"] = [{"targets": [address.removeprefix("http://")]}]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="module")
def monitoring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitoring]:
    """The three servers, with the rules of the repository."""
    folder = tmp_path_factory.mktemp("monitoring")
    with contextlib.ExitStack() as servers:
        gateway = servers.enter_context(running("pushgateway", folder / "pushgateway", f"--persistence.file={folder / 'groups'}"))
        arguments = [f"--config.file={files.ALERTMANAGER}", f"--storage.path={folder / 'silences'}", "--cluster.listen-address="]
        manager = servers.enter_context(running("alertmanager", folder / "alertmanager", *arguments))
        config = rendered_config(folder, gateway, manager)
        arguments = [f"--config.file={config}", f"--storage.tsdb.path={folder / 'series'}"]
        yield Monitoring(servers.enter_context(running("prometheus", folder / "prometheus", *arguments)), gateway, manager)


@pytest.fixture(scope="module")
def two_runs(monitoring: Monitoring, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of two runs: the first leaves a model, which is made the champion; the second compares with it."""
    home = tmp_path_factory.mktemp("home")
    environment = {
        "TUTORLOOP_PUSHGATEWAY": monitoring.pushgateway,
        "TUTORLOOP_PUSH_INTERVAL_S": "0.5",
        "TUTORLOOP_PUSH_LAST_WAIT_S": "120",
        "TUTORLOOP_RETRAINING_PERIOD_S": "86400",
    }
    arguments = [part for setting in SETTINGS for part in ("--set", setting)]
    for champion in ("", "the first run's"):
        if champion:
            store = open_store(str(home / "shared" / "models"))
            [version] = [path.name for path in (home / "shared" / "models" / "versions").iterdir()]
            assert promote(store, version, "") in {"moved", "unchanged"}
        status, output = command.run(home, *arguments, environment=environment)
        assert status == 0, output + command.log_of(home)[-5000:]
    publish_sync(monitoring)
    publish_keeper(monitoring, tmp_path_factory.mktemp("keeper"))
    # Two more evaluations of the rules: the last push has been scraped and recorded.
    evaluated = time.time()
    wait_until(lambda: min(last_evaluations(monitoring)) > evaluated + 2)
    return home


@pytest.fixture(scope="module")
def moment(monitoring: Monitoring, two_runs: Path) -> float:
    """A moment at which the figures of both runs are there: a single scrape that takes too long hides them for a while."""
    expected = [
        "up{job='pushgateway'} == 1",
        "push_time_seconds{job='sync'}",
        "push_time_seconds{job='keeper'}",
        *(rule["record"] for rule in files.rules() if "record" in rule),
    ]
    moments: list[float] = []

    def complete() -> bool:
        # A scrape that is under way and takes too long would hide what is there until it began.
        moments.append(time.time() - 3)
        found = (monitoring.query(expression, moments[-1]) for expression in expected)
        return all(any(map(math.isfinite, values)) for values in found)

    wait_until(complete)
    return moments[-1]


def publish_sync(monitoring: Monitoring) -> None:
    """What a sync pushes that found the schedules of the repository as Git has them."""
    declared = read_folder(ROOT / "manifests" / "components" / "schedules").schedules
    names = [item.schedule.name for item in declared]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pushgateway, "TIMEOUT_S", 60.0)
        patch.setenv("TUTORLOOP_PUSHGATEWAY", monitoring.pushgateway)
        publish(declared, Outcome(drift=dict.fromkeys(names, False), since=dict.fromkeys(names, time.time())), failed=False)


def publish_keeper(monitoring: Monitoring, folder: Path) -> None:
    """What a keeper of records pushes that has its store, and owes nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pushgateway, "TIMEOUT_S", 60.0)
        patch.setenv("TUTORLOOP_PUSHGATEWAY", monitoring.pushgateway)
        Health(folder).ready(True, owed=0)


def last_evaluations(monitoring: Monitoring) -> list[float]:
    groups = get(monitoring.prometheus, "/api/v1/rules")["data"]["groups"]
    return [time.mktime(time.strptime(group["lastEvaluation"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone for group in groups]


@pytest.mark.parametrize("query", list(files.panel_queries()), ids=lambda query: query.where + " " + query.expression)
def test_every_query_of_every_panel_shows_something(monitoring: Monitoring, moment: float, query: files.Query) -> None:
    values = monitoring.query(query.expression, moment)
    assert [value for value in values if math.isfinite(value)], f"{query.where} is empty: {query.expression}"


@pytest.mark.usefixtures("two_runs")
@pytest.mark.parametrize("name", ["pipeline", "run"])
def test_every_variable_of_the_dashboard_has_values(monitoring: Monitoring, name: str) -> None:
    [variable] = [item for item in files.dashboard()["templating"]["list"] if item["name"] == name]
    found = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"])
    assert found and found[2] == name and variable["query"]["query"] == variable["definition"]
    series = get(monitoring.prometheus, "/api/v1/series", **{"match[]": found[1].replace("$pipeline", ".*")})["data"]
    assert series and all(item[name] for item in series)


@pytest.mark.parametrize("rule", [rule for rule in files.rules() if "record" in rule], ids=lambda rule: rule["record"])
def test_every_recorded_series_exists(monitoring: Monitoring, moment: float, rule: dict[str, Any]) -> None:
    for expression in (rule["expr"], rule["record"]):
        assert [value for value in monitoring.query(expression, moment) if math.isfinite(value)], expression


@pytest.mark.parametrize("rule", files.alerts(), ids=lambda rule: rule["alert"])
def test_every_alert_watches_something_and_is_quiet_when_all_is_well(monitoring: Monitoring, moment: float, rule: dict[str, Any]) -> None:
    assert monitoring.query(rule["expr"], moment) == []
    if rule["expr"].startswith("absent("):
        watched = rule["expr"].removeprefix("absent(").removesuffix(")")
    else:
        watched = re.sub(r" (==|>=|>|<) ", r" \1 bool ", rule["expr"])
        assert watched != rule["expr"]
    assert monitoring.query(watched, moment), f"{rule['alert']} watches nothing: {watched}"


@pytest.mark.usefixtures("two_runs")
def test_no_rule_fails_to_evaluate(monitoring: Monitoring) -> None:
    groups = get(monitoring.prometheus, "/api/v1/rules")["data"]["groups"]
    assert sum(len(group["rules"]) for group in groups) == len(files.rules())
    assert {(rule["name"], rule["health"], rule.get("lastError", "")) for group in groups for rule in group["rules"]} == {
        (rule.get("record") or rule["alert"], "ok", "") for rule in files.rules()
    }


def test_the_gateway_holds_each_task_once(monitoring: Monitoring, two_runs: Path) -> None:
    """The second run took most of the first one's work from the cache; what it did itself is there in its name only."""
    first, second, _ = sorted(command.run_folders(two_runs))
    tasks = [group["labels"] for group in pushed(monitoring.pushgateway) if "task" in group["labels"]]
    of_task = {(labels["task"], labels.get("shard", "")): labels["run"] for labels in tasks}
    assert len(of_task) == len(tasks)
    assert of_task["sft", "0/1"] == first and of_task["publishing", "0/1"] == of_task["evaluation champion", "0/1"] == second
    assert all(float(group["push_failure_time_seconds"]["metrics"][0]["value"]) == 0 for group in pushed(monitoring.pushgateway))


def test_every_task_of_a_run_left_a_text_file(two_runs: Path) -> None:
    first, second, _ = sorted(command.run_folders(two_runs))
    names = {path.stem for path in (two_runs / first / "metrics").iterdir()}
    assert names >= {
        "version-of-the-sources-0-1", "seeds-0-1", "benchmarks-0-1", "base-model-0-1", "synthesis-0-2", "solving-1-2", "contamination-0-1",
        "sft-0-1", "evaluation-M0-0-1", "sampling-M1-0-2", "judging-M1-1-2", "preferences-M1-0-1", "tuning-M2-preference-0-1",
        "tuning-M2-control-0-1", "ledger-0-1", "current-champion-0-1", "evaluation-champion-0-1", "comparison-with-the-champion-0-1",
        "report-0-1", "publishing-0-1", "pipeline", "run",
    }  # fmt: skip
    assert "publishing-0-1" in {path.stem for path in (two_runs / second / "metrics").iterdir()}


@pytest.mark.usefixtures("two_runs")
def test_a_failed_stage_reaches_the_alertmanager(monitoring: Monitoring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushgateway, "TIMEOUT_S", 60.0)
    monkeypatch.setenv("TUTORLOOP_PUSH_LAST_WAIT_S", "120")
    monkeypatch.setenv("TUTORLOOP_PUSHGATEWAY", monitoring.pushgateway)
    monkeypatch.setenv("TUTORLOOP_RUN", "broken-on-purpose")
    monkeypatch.setenv("TUTORLOOP_PIPELINE", "orca-math")
    with pytest.raises(ZeroDivisionError), stage_run("sft", task="breaks on purpose"):
        _ = 1 // 0

    [alert] = arrived(monitoring, "broken-on-purpose")
    assert alert["labels"]["severity"] == "critical"
    assert alert["annotations"]["summary"] == "Run broken-on-purpose of orca-math failed"
    # A scrape that takes too long ends the alert for a while.
    wait_until(lambda: monitoring.query('count(ALERTS{alertname=~"TutorLoop.+",alertstate="firing"}) or vector(0)') == [1])


@pytest.mark.usefixtures("two_runs")
def test_a_run_that_fails_before_any_stage_reaches_the_alertmanager(monitoring: Monitoring, tmp_path: Path) -> None:
    environment = {"TUTORLOOP_PUSHGATEWAY": monitoring.pushgateway}
    arguments = ("--set", f"teacher.base_url=http://{NOBODY}/v1", "--set", "teacher.max_retries=0")
    status, output = command.run(tmp_path, *arguments, environment=environment)
    assert status == 1, output
    assert len(arrived(monitoring, command.latest(tmp_path).id)) == 1


def arrived(monitoring: Monitoring, run: str) -> list[dict[str, Any]]:
    """The alerts about a failed run that the Alertmanager has been told of, once there is one."""

    found: list[dict[str, Any]] = []

    def arrive() -> bool:
        active = get(monitoring.alertmanager, "/api/v2/alerts", active="true")
        found[:] = [alert for alert in active if alert["labels"]["alertname"] == "TutorLoopRunFailed" and alert["labels"]["run"] == run]
        return bool(found)

    wait_until(arrive)
    return found
