"""The families of word problems, all of our own making."""

from __future__ import annotations

from components.word_problems.endings import (
    EACH_FRIEND,
    FINDS,
    LOSES,
    MONEY,
    MONEY_TAILS,
    OPENING,
    OPENING_ASK,
    OWN,
    OWN_TAILS,
    PAY_TAILS,
    PAYS,
    TOGETHER,
    TOGETHER_TAILS,
    UNIT_PRICE_ASK,
    held,
)
from components.word_problems.families_more import MORE_FAMILIES
from components.word_problems.grammar import Ask, Closing, Family

_SUM_INVERSIONS = {
    "more": ("double = z - b", "a = double / 2"),
    "fewer": ("double = z + b", "a = double / 2"),
    "times": ("parts = b + 1", "a = z / parts"),
}

_FAMILIES = (
    Family(
        "gain",
        (OPENING, "{He} buys {b} more. | {n} buys {b} more {o}. | {He} gets {b} more from a friend."),
        ("z = a + b",),
        OWN,
        {"a": OPENING_ASK, "b": Ask("the number of new {o}", "How many new {o} does {n} get? | How many more {o} does {n} get?")},
        OWN_TAILS,
        expandable=True,
    ),
    Family(
        "loss",
        (OPENING, "{He} gives away {b}. | {n} sells {b} {o}. | {He} gives {b} to a friend."),
        ("z = a - b",),
        OWN,
        {
            "a": OPENING_ASK,
            "b": Ask("the number of {o} that {n} no longer has", "How many {o} does {he} part with? | How many {o} go away?"),
        },
        OWN_TAILS,
        expandable=True,
    ),
    Family(
        "groups",
        ("{n} has {a} {c} with {b} {o} in each. | {n} has {a} {c} of {b} {o}. | {n} fills {a} {c} with {b} {o} each.",),
        ("z = a * b",),
        Closing(
            OWN.label,
            OWN.asking + " | How many {o} does {n} have in all?",
            OWN.telling + " | In all {n} has {z} {o}.",
        ),
        {
            "a": Ask("the number of {c}", "How many {c} does {n} have? | How many {c} are there?"),
            "b": held("c"),
        },
        OWN_TAILS,
    ),
    Family(
        "share",
        (
            "{n} shares {a} {o} equally among {b} friends. | {n} gives {a} {o} to {b} friends in equal parts. "
            "| {n} deals {a} {o} equally to {b} friends.",
        ),
        ("z = a / b",),
        EACH_FRIEND,
        {
            "a": Ask("the number of {o} that {n} shares", "How many {o} does {n} share? | How many {o} are shared in all?"),
            "b": Ask("the number of friends", "How many friends are there? | How many friends get {o}?"),
        },
    ),
    Family(
        "compare_more",
        (OPENING, "{m} has {b} more {o} than {n}. | {m} has {b} {o} more than {n}. | {m} owns {b} more {o} than {n}."),
        ("s = a + b", "z = a + s"),
        TOGETHER,
        {
            "a": OPENING_ASK,
            "b": Ask("how many more {o} {m} has than {n}", "How many more {o} does {m} have than {n}? | How many more {o} are with {m}?"),
        },
        TOGETHER_TAILS,
        _SUM_INVERSIONS["more"],
        expandable=True,
    ),
    Family(
        "compare_fewer",
        (OPENING, "{m} has {b} fewer {o} than {n}. | {m} has {b} {o} fewer than {n}. | {m} owns {b} fewer {o} than {n}."),
        ("s = a - b", "z = a + s"),
        TOGETHER,
        {
            "a": OPENING_ASK,
            "b": Ask("how many fewer {o} {m} has than {n}", "How many fewer {o} does {m} have? | How many fewer {o} are with {m}?"),
        },
        TOGETHER_TAILS,
        _SUM_INVERSIONS["fewer"],
        expandable=True,
    ),
    Family(
        "compare_times",
        (OPENING, "{m} has {b} times as many {o} as {n}. | {m} has {b} times as many. | {m} owns {b} times as many {o} as {n}."),
        ("s = a * b", "z = a + s"),
        TOGETHER,
        {
            "a": OPENING_ASK,
            "b": Ask("how many times as many {o} {m} has", "How many times as many {o} does {m} have? | How many times as many is that?"),
        },
        TOGETHER_TAILS,
        _SUM_INVERSIONS["times"],
        expandable=True,
    ),
    Family(
        "difference",
        (OPENING, "{m} has {b} {o}. | {m} owns {b} {o}. | There are {b} {o} with {m}."),
        ("z = a - b",),
        Closing(
            "how many more {o} {n} has than {m}",
            "How many more {o} does {n} have than {m}? | How many more {o} are with {n} than with {m}? "
            "| How many {o} more than {m} does {n} have?",
            "{n} has {z} more {o} than {m}. | {n} has {z} {o} more than {m}. | That is {z} {o} more for {n}.",
        ),
        {
            "a": OPENING_ASK,
            "b": Ask("the number of {o} that {m} has", "How many {o} does {m} have? | How many {o} are with {m}?"),
        },
        expandable=True,
    ),
    Family(
        "price",
        ("{n} buys {a} {o} for {b} dollars each. | {n} buys {a} {o} at {b} dollars each. | {n} needs {a} {o} and each costs {b} dollars.",),
        ("z = a * b",),
        PAYS,
        {
            "a": Ask("the number of {o}", "How many {o} does {n} buy? | How many {o} are there?"),
            "b": UNIT_PRICE_ASK,
        },
        PAY_TAILS,
    ),
    Family(
        "money_left",
        (
            "{n} has {a} dollars. | {n} starts with {a} dollars. | {n} takes {a} dollars to a shop.",
            "{He} buys {b} {o} for {d} dollars each. | {n} buys {b} {o} at {d} dollars each. | {He} pays {d} dollars for each of {b} {o}.",
        ),
        ("s = b * d", "z = a - s"),
        MONEY,
        {
            "a": Ask(
                "the number of dollars that {n} has at first",
                "How many dollars does {n} have at first? | How many dollars are there at first?",
            ),
            "b": Ask("the number of {o}", "How many {o} does {n} buy? | How many {o} are there?"),
            "d": UNIT_PRICE_ASK,
        },
        MONEY_TAILS,
    ),
    Family(
        "two_kinds",
        (
            "{n} has {a} {c} with {b} {o} in each. | {n} has {a} {c} of {b} {o}. | {n} fills {a} {c} with {b} {o} each.",
            "{He} also has {d} {k} with {e} {o} in each. | {n} also has {d} {k} of {e} {o}. | {He} also fills {d} {k} with {e} {o} each.",
        ),
        ("s = a * b", "t = d * e", "z = s + t"),
        Closing(
            "the number of {o} that {n} has in all",
            "How many {o} does {n} have in all? | How many {o} does {n} have now? | How many {o} are with {n} in all?",
            "In all {n} has {z} {o}. | Now {n} has {z} {o}. | {n} has {z} {o} in all.",
        ),
        {
            "a": Ask("the number of {c}", "How many {c} does {n} have? | How many {c} are there?"),
            "b": held("c"),
            "d": Ask("the number of {k}", "How many {k} does {n} have? | How many {k} are there?"),
            "e": held("k"),
        },
        (FINDS, LOSES),
    ),
)

FAMILIES = {family.name: family for family in _FAMILIES + MORE_FAMILIES}
"""Family name to family."""
