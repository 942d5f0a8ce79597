"""Families about pages, pay, ages, lengths, seats, ways, packs, teams and averages."""

from __future__ import annotations

from components.word_problems.endings import MONEY, MONEY_TAILS, OPENING, OPENING_ASK, held
from components.word_problems.grammar import Ask, Closing, Family, Tail

_PAGES_LEFT = Closing(
    "the number of pages that are left",
    "How many pages are left? | How many pages are still left? | How many pages must {n} still read?",
    "Now {z} pages are left. | Then {n} has {z} pages left. | There are {z} pages left.",
)
_SEATS_NOW = Closing(
    "the number of seats that are taken in the end",
    "How many seats are taken now? | How many seats are taken in the end? | How many seats are full now?",
    "Now {z} seats are taken. | In the end {z} seats are taken. | Now {z} seats are full.",
)

MORE_FAMILIES = (
    Family(
        "reading",
        (
            "A book has {a} pages. | {n} has a book with {a} pages. | A book of {a} pages lies on a desk.",
            "{n} reads {b} pages a day for {d} days. | For {d} days {n} reads {b} pages a day. | {n} reads {b} pages on each of {d} days.",
        ),
        ("s = b * d", "z = a - s"),
        _PAGES_LEFT,
        {
            "a": Ask("the number of pages in the book", "How many pages does the book have? | How many pages are in the book?"),
            "b": Ask("the number of pages that {n} reads a day", "How many pages does {n} read a day? | How many pages a day is that?"),
            "d": Ask("the number of days", "For how many days does {n} read? | How many days is that?"),
        },
        (
            Tail(
                "reads_on",
                "Then {he} reads {x} more pages. | Later {n} reads {x} pages. | After that {he} reads {x} pages.",
                "-",
                Ask("the number of pages that {n} reads later", "How many pages does {n} read later? | How many more pages does {n} read?"),
            ),
        ),
    ),
    Family(
        "wages",
        (
            "{n} earns {a} dollars an hour. | {n} gets {a} dollars for an hour of work. | For each hour {n} earns {a} dollars.",
            "{He} works {b} hours. | {n} works for {b} hours. | {He} is at work for {b} hours.",
            "{He} spends {d} dollars. | {n} spends {d} dollars on food. | {He} pays {d} dollars for food.",
        ),
        ("s = a * b", "z = s - d"),
        MONEY,
        {
            "a": Ask("the number of dollars for an hour", "How many dollars does {n} earn an hour? | How many dollars is one hour worth?"),
            "b": Ask("the number of hours", "How many hours does {n} work? | How many hours is that?"),
            "d": Ask("the number of dollars that {n} spends", "How many dollars does {n} spend? | How much does {n} spend in dollars?"),
        },
        MONEY_TAILS,
    ),
    Family(
        "age",
        (
            "{n} is {a} years old. | {n} is now {a} years old. | The age of {n} is {a} years.",
            "{m} is {b} years older than {n}. | {m} is {b} years older. | {m} was born {b} years before {n}.",
        ),
        ("s = a + b", "z = s + d"),
        Closing(
            "the later age of {m}",
            "How old will {m} be in {d} years? | In {d} years how old will {m} be? | How old is {m} after {d} years?",
            "In {d} years {m} will be {z}. | {m} will be {z} in {d} years. | After {d} years {m} is {z}.",
        ),
        {
            "a": Ask("the age of {n}", "How old is {n} now? | How old is {n}?"),
            "b": Ask("how many years older {m} is", "How many years older is {m}? | How many years older than {n} is {m}?"),
            "d": Ask("the number of years until then", "How many years is that from now? | In how many years is that?"),
        },
    ),
    Family(
        "fence",
        (
            "A garden is {a} metres long. | A field is {a} metres long. | The length of a yard is {a} metres.",
            "It is {b} metres wide. | Its width is {b} metres. | The width is {b} metres.",
        ),
        ("s = a + b", "z = s * 2"),
        Closing(
            "the length of a fence around it in metres",
            "How many metres of fence go around it? | How long is a fence around it in metres? | How many metres is it around?",
            "A fence around it is {z} metres long. | It is {z} metres around. | Around it go {z} metres of fence.",
        ),
        {
            "a": Ask("the length in metres", "How many metres long is it? | What is the length in metres?"),
            "b": Ask("the width in metres", "How many metres wide is it? | What is the width in metres?"),
        },
        (
            Tail(
                "gate",
                "A gate takes up {x} metres. | There is a gate of {x} metres. | A wall takes up {x} metres.",
                "-",
                Ask("the length without a fence in metres", "How many metres need no fence? | How many metres are without a fence?"),
                Closing(
                    "the length of the fence in metres",
                    "How many metres of fence are needed? | How long is the fence in metres? | How many metres of fence are there?",
                    "The fence is {z} metres long. | It needs {z} metres of fence. | There are {z} metres of fence.",
                ),
                last=True,
            ),
        ),
    ),
    Family(
        "seats",
        (
            "A hall has {a} rows of {b} seats. | A hall has {a} rows with {b} seats in each. | In a room there are {a} rows of {b} seats.",
            "There are {d} empty seats. | Of them {d} seats are empty. | In it {d} seats are empty.",
        ),
        ("s = a * b", "z = s - d"),
        Closing(
            "the number of seats that are taken",
            "How many seats are taken? | How many seats are full? | How many seats are not empty?",
            "So {z} seats are taken. | So {z} seats are full. | So {z} seats are not empty.",
        ),
        {
            "a": Ask("the number of rows", "How many rows are there? | How many rows of seats are there?"),
            "b": Ask("the number of seats in a row", "How many seats are in a row? | How many seats does each row have?"),
            "d": Ask("the number of empty seats", "How many seats are empty? | How many empty seats are there?"),
        },
        (
            Tail(
                "people_come",
                "Then {x} people come. | Later {x} people sit down. | After that {x} people come in.",
                "+",
                Ask("the number of people that come", "How many people come? | How many people come in?"),
                _SEATS_NOW,
            ),
            Tail(
                "people_leave",
                "Then {x} people leave. | Later {x} people go home. | After that {x} people get up and go.",
                "-",
                Ask("the number of people that leave", "How many people leave? | How many people go?"),
                _SEATS_NOW,
            ),
        ),
    ),
    Family(
        "walk",
        (
            "{n} walks {a} km on Monday. | On Monday {n} walks {a} km. | {n} walks {a} km on the first day.",
            "On Tuesday {he} walks {b} times as far. | Then {he} walks {b} times as far. | Next day {he} walks {b} times as far.",
        ),
        ("s = a * b", "z = a + s"),
        Closing(
            "the number of km in all",
            "How many km does {n} walk in all? | How many km does {n} walk? | How far does {n} walk in km?",
            "In all {n} walks {z} km. | {n} walks {z} km in all. | {He} walks {z} km in total.",
        ),
        {
            "a": Ask("the number of km on the first day", "How many km does {n} walk at first? | How many km is the first walk?"),
            "b": Ask(
                "how many times as far the second walk is", "How many times as far is the second walk? | How many times as far is that?"
            ),
        },
        (
            Tail(
                "walks_on",
                "On Friday {he} walks {x} km. | Then {he} walks {x} more km. | Later {n} walks {x} km.",
                "+",
                Ask("the number of km of the last walk", "How many km is the last walk? | How many km does {n} walk at last?"),
            ),
        ),
        ("parts = b + 1", "a = z / parts"),
    ),
    Family(
        "pack",
        (
            OPENING,
            "{He} makes {b} more. | {n} makes {b} more {o}. | Then {he} makes {b} {o}.",
            "{He} packs them in {c} of {d}. | {n} puts them into {c} of {d}. | All go into {c} with {d} in each.",
        ),
        ("s = a + b", "z = s / d"),
        Closing(
            "the number of {c}",
            "How many {c} does {n} fill? | How many {c} are full? | How many {c} does {he} need?",
            "{n} fills {z} {c}. | So {z} {c} are full. | {n} needs {z} {c}.",
        ),
        {
            "a": OPENING_ASK,
            "b": Ask("the number of {o} that {n} makes", "How many {o} does {n} make? | How many more {o} does {he} make?"),
            "d": held("c"),
        },
        expandable=True,
    ),
    Family(
        "teams",
        (
            "A class has {a} girls and {b} boys. | There are {a} girls and {b} boys in a class. | A camp has {a} girls and {b} boys.",
            "They form teams of {d}. | They make teams of {d}. | They play in teams of {d}.",
        ),
        ("s = a + b", "z = s / d"),
        Closing(
            "the number of teams",
            "How many teams are there? | How many teams do they form? | How many teams can they make?",
            "There are {z} teams. | They form {z} teams. | They make {z} teams.",
        ),
        {
            "a": Ask("the number of girls", "How many girls are there? | How many girls is that?"),
            "b": Ask("the number of boys", "How many boys are there? | How many boys is that?"),
            "d": Ask("the number of children in a team", "How many children are in a team? | How many children does each team have?"),
        },
        (
            Tail(
                "teams_come",
                "Then {x} more teams come. | Later {x} teams join them. | After that {x} teams come.",
                "+",
                Ask("the number of teams that come", "How many teams come? | How many more teams come?"),
                Closing(
                    "the number of teams in the end",
                    "How many teams are there now? | How many teams are there in the end? | How many teams play now?",
                    "Now there are {z} teams. | In the end there are {z} teams. | Now {z} teams play.",
                ),
                last=True,
            ),
        ),
    ),
    Family(
        "average",
        (
            "{n} scores {a}, {b} and {d} points in three games. | In three games {n} scores {a}, {b} and {d} points. "
            "| {n} plays three games and gets {a}, {b} and {d} points.",
        ),
        ("s = a + b", "t = s + d", "z = t / 3"),
        Closing(
            "the average number of points",
            "What is the average score? | How many points is that on average? | What is the average of the three?",
            "The average is {z} points. | That is {z} points on average. | The average of the three is {z}.",
        ),
        {
            "a": Ask("the points of the first game", "How many points is the first game? | How many points does {n} get first?"),
            "b": Ask("the points of the second game", "How many points is the second game? | How many points does {n} get second?"),
            "d": Ask("the points of the last game", "How many points is the last game? | How many points does {n} get last?"),
        },
    ),
)
