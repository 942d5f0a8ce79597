"""The tables."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from tests.benchmarks.teacher.aims import aims
from tests.benchmarks.teacher.environments import CLIENTS
from tests.benchmarks.teacher.race import Race, against_bare, against_ideal, cpu_ms, good, median, problem
from tests.benchmarks.teacher.scenarios import CONCURRENCY, Result

BEGIN = "<!-- teacher race: begin (make bench-teacher writes what is between these lines) -->"
END = "<!-- teacher race: end -->"
TIMED = ("throughput", "long tail", "10 % HTTP 500", "5 % HTTP 429")
COUNTED = (
    "kill at half",
    "kill at full speed",
    "first run",
    "run again",
    "one row edited",
    "other order",
    "100 new rows",
    "three stages",
    "one of three prompts",
    "four processes",
)


def write_results(race: Race, folder: Path) -> None:
    """Write ``results.json`` and ``results.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_bytes(msgspec.json.format(msgspec.json.encode(race), indent=1) + b"\n")
    (folder / "results.md").write_text(tables(race), encoding="utf-8")


def write_page(race: Race, page: Path) -> None:
    """Put the headline table between its markers.

    Raises:
        ValueError: The file has no such markers.
    """
    text = page.read_text(encoding="utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no lines {BEGIN} and {END}")
    page.write_text(f"{head}{BEGIN}\n{headline(race)}{END}{tail}", encoding="utf-8")


def headline(race: Race) -> str:
    """One line for each client."""
    rows = []
    for client in CLIENTS:
        if not any(result.client == client.name for result in race.results):
            continue
        rows.append(
            [
                client.title,
                _middle(race, client.name, "throughput", lambda result: (race.rows - result.lost) / result.seconds, "{:.0f}"),
                _middle(race, client.name, "throughput", cpu_ms, "{:.2f} ms"),
                _cell(race, client.name, "long tail", against_bare(race, client.name, "long tail"), "{:.2f}"),
                _middle(race, client.name, "10 % HTTP 500", against_ideal, "{:.2f}"),
                _middle(race, client.name, "5 % HTTP 429", against_ideal, "{:.2f}"),
                *(
                    _paid(race, client.name, scenario) if client.remembers else "no cache"
                    for scenario in ("kill at half", "kill at full speed", "one row edited", "four processes")
                ),
            ]
        )
    return _table(
        [
            "client",
            "requests/s",
            "CPU per request",
            "long tail, × bare pool",
            "10 % HTTP 500, × ideal",
            "5 % HTTP 429, × ideal",
            "paid again after a kill at half",
            "at full speed",
            "after one edit",
            "by four processes",
        ],
        rows,
    )


def tables(race: Race) -> str:
    """All of it, as Markdown."""
    lines = [
        "# The teacher's client and its rivals",
        "",
        "Written by `make bench-teacher` (`python -m tests.benchmarks.teacher --help`). "
        f"{race.machine['cores']} cores, {race.machine['system']}, Python {race.machine['python']}, {race.machine['day']}. "
        f"{CONCURRENCY} requests in flight, {race.rows:,} rows unless another number stands there. "
        "Client and server share the cores, and so does whatever else the machine does: times of one table belong together, "
        "processor time is the steadier column.",
        "",
        *(
            f"- {client.title}: " + ", ".join(f"{name} {version}" for name, version in race.versions[client.name].items())
            for client in CLIENTS
            if client.name in race.versions
        ),
        "",
        "## Aims",
        "",
        _table(["aim", "at", "measured", "met"], [[each.text, each.limit, each.value, each.met] for each in aims(race)]),
    ]
    for scenario in TIMED:
        lines += _timed(race, scenario)
    lines += _counted(race)
    return "\n".join([*lines, *NOTES]) + "\n"


NOTES = [
    "## Notes",
    "",
    "- Seconds and CPU s run from the call to the results in hand; what the interpreter and the imports take before stands apart "
    "(`start_cpu_s` and `process_s` in `results.json`). Ideal: the service time of all attempts, "
    "those that failed among them, divided by the requests in flight. Every prompt has its own latency and its "
    "own faults, from its hash: the same for every client.",
    "- Lost or wrong: rows that have not their own reply at the end, but none or another prompt's. "
    "Paid twice: replies beyond the first to the same prompt.",
    "- TutorLoop writes every reply into its store before it counts as answered. The bare pool and openai-python keep nothing.",
    "- The scenarios with faults are long on purpose (0.6 s for a reply): whichever row comes last may have to wait for its Retry-After of "
    "a second once or twice, and no client can shorten that. It is a twentieth of the ideal time each time.",
    "- *Kill at half*: the server answers half of the requests and falls silent; half a second later every process of the client is "
    "killed, and the same work is started again. *At full speed* the client is killed without such a pause: "
    "replies that its connections hold and it has not read count as in flight, what it has read and not yet kept is paid again.",
    "- *One of three prompts*: two stages ask about the texts of the first; the wording of one of these two changes.",
    "- *Four processes* share one cache folder; every row is in the work of two of them.",
    "- Kills are repeated as the timed scenarios are, the worst of them is shown; what else is counted is counted once. A client whose run "
    "was given up in a scenario is not asked to run it again.",
    "- Every client has 10 further attempts for a request, 64 requests in flight and, where it has one, a fresh cache folder. curator's "
    "limits per minute are set far out of the way; it sends one request without messages to read rate limits from the headers, counted as "
    "sent. Its token counter wants the file of an encoding from the network: TIKTOKEN_CACHE_DIR names the folder in which litellm, a "
    "dependency of curator, ships that file. distilabel's "
    "cache knows a pipeline by its steps and not by the data of LoadDataFromDicts. distilabel 1.5.3 does not declare `requests`, which it "
    "imports: the requirement file adds it. Its batches hold 64 rows, as many as there may be requests in flight.",
]


def _middle(race: Race, client: str, scenario: str, value: Callable[[Result], float], form: str) -> str:
    return _cell(race, client, scenario, median(race, client, scenario, value), form)


def _cell(race: Race, client: str, scenario: str, value: float | None, form: str) -> str:
    return problem(race, client, scenario) or "–" if value is None else form.format(value)


def _spread(values: Sequence[float], form: str) -> str:
    middle = form.format(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({form.format(min(values))}–{form.format(max(values))})"


def _paid(race: Race, client: str, scenario: str) -> str:
    """Most that was paid again in any repetition."""
    runs = good(race, client, scenario)
    if not runs:
        return problem(race, client, scenario) or "–"
    lost = max(each.lost for each in runs)
    paid = f"{max(each.paid_twice for each in runs):,}"
    return f"{paid}, {lost:,} rows wrong" if lost else paid


def _timed(race: Race, scenario: str) -> list[str]:
    rows = []
    for client in CLIENTS:
        runs = good(race, client.name, scenario)
        if not runs:
            if told := problem(race, client.name, scenario):
                rows.append([client.title, told, *[""] * 10])
            continue
        rows.append(
            [
                client.title,
                _spread([each.seconds for each in runs], "{:.2f}"),
                f"{statistics.median(map(against_ideal, runs)):.2f}",
                _cell(race, client.name, scenario, against_bare(race, client.name, scenario), "{:.2f}"),
                _spread([each.cpu_s - each.start_cpu_s for each in runs], "{:.2f}"),
                f"{statistics.median(each.start_cpu_s for each in runs):.2f}",
                f"{statistics.median(each.server_cpu_s for each in runs):.2f}",
                f"{statistics.median(each.peak_mb for each in runs):.0f}",
                str(max(each.sent for each in runs)),
                str(max(each.lost for each in runs)),
                str(max(each.paid_twice for each in runs)),
                str(max(each.largest_crowd for each in runs)),
            ]
        )
    if not rows:
        return []
    columns = ["client", "seconds", "× ideal", "× bare pool", "CPU s", "CPU s to start", "server's CPU s"]
    columns += ["MB", "sent", "lost", "paid twice", "crowd"]
    ideal = next((each.ideal_s for each in race.results if each.scenario == scenario and each.ideal_s), 0.0)
    needed = next((each.needed for each in race.results if each.scenario == scenario and each.needed), 0)
    explained = f"{needed:,} requests with all that fail; ideal {ideal:.2f} s. Crowd: most further attempts within a tenth of a second."
    return [f"## {scenario[0].upper()}{scenario[1:]}", "", explained, "", _table(columns, rows)]


def _counted(race: Race) -> list[str]:
    present = [scenario for scenario in COUNTED if any(each.scenario == scenario for each in race.results)]
    if not present:
        return []
    rows = []
    for scenario in present:
        row = [scenario, ""]
        for client in CLIENTS:
            if not client.remembers:
                continue
            runs = good(race, client.name, scenario)
            if not runs:
                row.append(problem(race, client.name, scenario) or "–")
                continue
            worst = max(runs, key=lambda each: (each.paid_twice, each.lost))
            row[1] = row[1] or f"{worst.needed:,}"
            parts = [f"{worst.sent:,} sent, {worst.paid_twice:,} paid again"]
            if worst.in_flight:
                parts.append(f"{worst.in_flight} in flight at the kill")
            if worst.lost:
                parts.append(f"**{worst.lost:,} rows wrong**")
            row.append("; ".join(parts))
        rows.append(row)
    rememberers = [client.title for client in CLIENTS if client.remembers]
    without = ", ".join(client.title for client in CLIENTS if not client.remembers)
    return [
        "## What is paid again",
        "",
        f"No cache, so everything is paid again each time: {without}.",
        "",
        _table(["", "needed", *rememberers], rows),
    ]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |\n" for line in lines)
