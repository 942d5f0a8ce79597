"""The race.

    python -m tests.benchmarks.teacher [--repetitions 3] [--only tutorloop,bare] [--scenarios throughput,kill] [--out FOLDER] [--page]

Makes an environment for each rival in ``build/teacher-race`` (pinned in ``requirements/``), starts the server, lets the clients run the
scenarios in turns, and writes ``results.json`` and ``results.md`` after each. What a client pays again is counted in the first
repetition only: counts do not scatter as times do. ``--add`` keeps what the files hold of other clients and scenarios.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.teacher.environments import CLIENTS, HERE, ROOT, Client, prepare, versions
from tests.benchmarks.teacher.measure import running_server
from tests.benchmarks.teacher.race import Race, joined, machine, read_results
from tests.benchmarks.teacher.report import write_page, write_results
from tests.benchmarks.teacher.scenarios import MEMORY, ONCE, SCENARIOS, Course, Result


def line(result: Result) -> str:
    """A run, for whoever watches."""
    times = f"{result.seconds:7.2f} s {result.cpu_s:7.2f} CPU s {result.peak_mb:6.0f} MB"
    counts = f"{result.sent:6} sent {result.lost:5} lost {result.paid_twice:5} paid twice"
    return f"{result.scenario:22} {result.client:15} {times} {counts}  {result.problem}"


def main() -> None:
    """Run the race as the command line says."""
    # As an exception, so that clients and server end with the race.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.teacher", description="TutorLoop's teacher client and its rivals.")
    parser.add_argument("--repetitions", type=int, default=3, help="runs of each client in each timed scenario")
    parser.add_argument("--only", default="", help="clients, separated by commas: " + ", ".join(client.name for client in CLIENTS))
    parser.add_argument("--scenarios", default="", help="scenarios, separated by commas: " + ", ".join(SCENARIOS))
    parser.add_argument("--rows", type=int, default=2000, help="rows of a run")
    parser.add_argument("--limit", type=float, default=180.0, help="seconds after which a run of a client is given up")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for results.json and results.md")
    parser.add_argument("--add", action="store_true", help="keep results of other clients and scenarios that are there already")
    parser.add_argument("--page", action="store_true", help="write the headline table into docs/teacher.md as well")
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else [client.name for client in CLIENTS]
    scenarios = arguments.scenarios.split(",") if arguments.scenarios else list(SCENARIOS)
    if unknown := (set(names) - {client.name for client in CLIENTS}) | (set(scenarios) - set(SCENARIOS)):
        parser.error("no such client or scenario: " + ", ".join(sorted(unknown)))
    clients = [client for client in CLIENTS if client.name in names]
    for client in clients:
        prepare(client)
    race = Race(machine=machine(), rows=arguments.rows, versions={client.name: versions(client) for client in clients})
    kept = read_results(arguments.out) if arguments.add else None
    given_up: set[tuple[str, Client]] = set()
    with running_server() as server:
        for repetition in range(arguments.repetitions):
            for scenario in scenarios:
                if scenario in ONCE and repetition:
                    continue
                for client in clients:
                    if (scenario in MEMORY and not client.remembers) or (scenario, client) in given_up:
                        continue
                    folder = Path(tempfile.mkdtemp(prefix="teacher-race-"))
                    for result in SCENARIOS[scenario](Course(server, client, folder, arguments.rows, arguments.limit)):
                        result.repetition = repetition
                        print(line(result), flush=True)
                        race.results.append(result)
                        if result.problem:
                            # It would hang again, until the limit.
                            given_up.add((scenario, client))
                    shutil.rmtree(folder, ignore_errors=True)
                    write_results(joined(kept, race), arguments.out)
    if arguments.page:
        write_page(joined(kept, race), ROOT / "docs" / "teacher.md")


if __name__ == "__main__":
    main()
