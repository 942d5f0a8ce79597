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


def check(cron: str) -> None:
    """Refuse what Kubeflow would refuse or misread.

    Raises:
        ValueError: Says what is wrong.
    """
    _parsed(cron)


def longest_gap(cron: str) -> float:
    """The longest time between two firings, in seconds: for ``0 0 3 * * 1-5`` that over a weekend.

    Raises:
        ValueError: Not a valid expression.
    """
    fields = _fields(cron)
    parsed = _parsed(cron)
    times = sorted(hour * 3600 + minute * 60 + second for hour in parsed.hours for minute in parsed.minutes for second in parsed.seconds)
    within = max((later - earlier for earlier, later in pairwise(times)), default=0)
    end = _START + datetime.timedelta(days=_DAYS)
    days = []
    for day in CronSim(" ".join(["0 0 0", *fields[3:]]), _START - datetime.timedelta(days=1)):
        if day > end:
            break
        days.append(day)
    if len(days) < 2:
        raise ValueError("it fires less than once in four years")
    between = max((later - earlier).total_seconds() for earlier, later in pairwise(days))
    return max(within, between - (times[-1] - times[0]))


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
