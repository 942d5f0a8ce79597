"""Openings, closings and tails that several families share."""

from __future__ import annotations

from components.word_problems.grammar import Ask, Closing, Expansion, Tail


def held(container: str) -> Ask:
    """How to ask what each container of a placeholder (``c`` or ``k``) holds."""
    box = "{" + container + "}"
    return Ask(
        "the number of {o} in each of the " + box,
        f"How many {{o}} are in each of the {box}? | How many {{o}} does each of the {box} hold?",
    )


UNIT_PRICE_ASK = Ask(
    "the price of one of the {o} in dollars",
    "How many dollars does each one cost? | How many dollars is one of the {o}?",
)
OPENING = "{n} has {a} {o}. | {n} starts with {a} {o}. | At first {n} has {a} {o}."
OPENING_ASK = Ask(
    "the number of {o} that {n} has at first",
    "How many {o} does {n} have at first? | How many {o} does {n} start with? | How many {o} did {n} have before?",
)
EXPANSIONS = (
    Expansion(
        "{n} has {g} {k} with {p} {o} in each. | {n} starts with {g} {k} of {p} {o}. | At first {n} has {g} {k} of {p} {o}.",
        "*",
        {
            "g": Ask("the number of {k}", "How many {k} does {n} have at first? | How many {k} does {n} start with?"),
            "p": held("k"),
        },
    ),
    Expansion(
        "{n} has {g} red and {p} blue {o}. | {n} starts with {g} red and {p} blue {o}. | At first {n} has {g} red and {p} blue {o}.",
        "+",
        {
            "g": Ask("the number of red {o}", "How many red {o} does {n} have at first? | How many red {o} does {n} start with?"),
            "p": Ask("the number of blue {o}", "How many blue {o} does {n} have at first? | How many blue {o} does {n} start with?"),
        },
    ),
)

OWN = Closing(
    "the number of {o} that {n} has in the end",
    "How many {o} does {n} have now? | How many {o} does {n} have in the end? | How many {o} are with {n} now?",
    "Now {n} has {z} {o}. | In the end {n} has {z} {o}. | {n} now has {z} {o}.",
)
EACH_FRIEND = Closing(
    "the number of {o} that each friend gets",
    "How many {o} does each friend get? | How many {o} are there for each friend? | How many {o} does every friend get?",
    "Each friend gets {z} {o}. | There are {z} {o} for each friend. | Every friend gets {z} {o}.",
)
FINDS = Tail(
    "finds",
    "Then {he} finds {x} more. | Later {he} finds {x} more {o}. | After that {n} finds {x} {o}.",
    "+",
    Ask("the number of {o} that {n} finds", "How many {o} does {n} find? | How many more {o} does {he} find?"),
)
LOSES = Tail(
    "loses",
    "Then {he} loses {x}. | Later {he} loses {x} {o}. | After that {n} loses {x} {o}.",
    "-",
    Ask("the number of {o} that {n} loses", "How many {o} does {n} lose? | How many of the {o} does {he} lose?"),
)
FRIENDS = Tail(
    "friends",
    "Then {he} shares them equally among {x} friends. | Then {n} shares all {o} equally among {x} friends. "
    "| At last {he} shares them equally among {x} friends.",
    "/",
    Ask("the number of friends", "How many friends are there? | How many friends get {o}?"),
    EACH_FRIEND,
    last=True,
)
OWN_TAILS = (FINDS, LOSES, FRIENDS)

TOGETHER = Closing(
    "the number of {o} that they have together",
    "How many {o} do they have together? | How many {o} do {n} and {m} have in all? | How many {o} do they have in total?",
    "Together they have {z} {o}. | {n} and {m} have {z} {o} in all. | In total they have {z} {o}.",
)
_TOGETHER_NOW = Closing(
    "the number of {o} that they have together in the end",
    "How many {o} do they have now? | How many {o} do {n} and {m} have now? | How many {o} do they have in the end?",
    "Now they have {z} {o}. | {n} and {m} now have {z} {o}. | In the end they have {z} {o}.",
)
TOGETHER_TAILS = (
    Tail(
        "they_find",
        "Then they find {x} more. | Later they find {x} more {o}. | After that they find {x} {o}.",
        "+",
        Ask("the number of {o} that they find", "How many {o} do they find? | How many more {o} do they find?"),
        _TOGETHER_NOW,
    ),
    Tail(
        "they_sell",
        "Then they sell {x}. | Later they sell {x} {o}. | After that they sell {x} of the {o}.",
        "-",
        Ask("the number of {o} that they sell", "How many {o} do they sell? | How many of the {o} do they sell?"),
        _TOGETHER_NOW,
    ),
)

PAYS = Closing(
    "the number of dollars that {n} pays in all",
    "How many dollars does {n} pay? | How many dollars does {n} pay in all? | How much does {n} pay in dollars?",
    "{n} pays {z} dollars in all. | In all {n} pays {z} dollars. | {He} pays {z} dollars in total.",
)
PAY_TAILS = (
    Tail(
        "fee",
        "{He} also pays {x} dollars for the bus. | The bus costs {x} dollars more. | {n} also pays {x} dollars for lunch.",
        "+",
        Ask("the other cost in dollars", "How many dollars is the other cost? | How many dollars does {he} pay besides?"),
    ),
    Tail(
        "discount",
        "The shop takes {x} dollars off. | A coupon saves {x} dollars. | {n} gets {x} dollars off.",
        "-",
        Ask("the discount in dollars", "How many dollars does {n} save? | How many dollars are taken off?"),
    ),
)

MONEY = Closing(
    "the number of dollars that {n} has left",
    "How many dollars does {n} have left? | How many dollars are left? | How much money is left in dollars?",
    "{n} has {z} dollars left. | In the end {z} dollars are left. | {He} has {z} dollars left.",
)
MONEY_TAILS = (
    Tail(
        "gift",
        "Then {he} gets {x} dollars as a gift. | Later a friend gives {n} {x} dollars. | After that {he} finds {x} dollars.",
        "+",
        Ask("the number of dollars that {n} gets later", "How many dollars does {n} get later? | How many dollars come in later?"),
    ),
    Tail(
        "ticket",
        "Then {he} pays {x} dollars for a ticket. | Later a ticket costs {n} {x} dollars. | After that {he} buys a ticket for {x} dollars.",
        "-",
        Ask("the price of the ticket in dollars", "How many dollars is the ticket? | How much is the ticket in dollars?"),
    ),
)
