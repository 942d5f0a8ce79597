"""Cron expressions as Kubeflow reads them: six fields, seconds first, in the grammar of Go's robfig/cron.

Expressions of five fields, ``L``, ``#`` and 7 for Sunday mean something else there or are refused at a time when nobody is looking.
"""

from __future__ import annotations

import datetime
from itertools import pairwise

from cronsim import CronSim, CronSimError

EXAMPLE = "0 0 3 * * 1"
DAY_S = 86_400
_START = datetime.datetime(2024, 1, 1)
_DAYS = 9 * 366
"""Long enough for two 29ths of February."""
_NAMES = {
    4: {"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"},
    5: {"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"},
}


def longest_gap(cron: str) -> float:
    """The longest time between two firings, in seconds: for ``0 0 3 * * 1-5`` that over a weekend.

    Raises:
        ValueError: Not a valid expression.
    """
    parsed = _parsed(cron)
    times = sorted(hour * 3600 + minute * 60 + second for hour in parsed.hours for minute in parsed.minutes for second in parsed.seconds)
    within = max((later - earlier for earlier, later in pairwise(times)), default=0)
    days = [number for number in range(_DAYS) if _fires(parsed, _START + datetime.timedelta(days=number))]
    if len(days) < 2:
        raise ValueError("it fires less than once in four years")
    between = max(later - earlier for earlier, later in pairwise(days)) * DAY_S
    return max(within, between - (times[-1] - times[0]))


def _fires(parsed: CronSim, day: datetime.datetime) -> bool:
    by_date, by_weekday = day.day in parsed.days, (day.weekday() + 1) % 7 in parsed.weekdays
    return day.month in parsed.months and (by_date and by_weekday if parsed.day_and else by_date or by_weekday)


def _parsed(cron: str) -> CronSim:
    try:
        return CronSim(" ".join(_fields(cron)), _START)
    except CronSimError as error:
        raise ValueError(str(error)) from error


def _fields(cron: str) -> list[str]:
    """The fields in the form that cronsim reads as robfig/cron reads the original."""
    fields = cron.upper().replace("?", "*").split()
    if len(fields) != 6:
        raise ValueError(f"{len(fields)} fields instead of 6, seconds first, for example {EXAMPLE!r}")
    for index, field in enumerate(fields):
        terms = field.split(",")
        for number, term in enumerate(terms):
            base, slash, step = term.partition("/")
            for part in base.split("-"):
                if not (part.isdecimal() or part == "*" or part in _NAMES.get(index, ())):
                    raise ValueError(f"{field!r} holds {part!r}")
                if index == 5 and part.isdecimal() and int(part) > 6:
                    raise ValueError("days of the week are 0 (Sunday) to 6")
            if index == 5 and slash and "-" not in base and base != "*":
                terms[number] = f"{base}-6/{step}"
        fields[index] = ",".join(terms)
    return fields
