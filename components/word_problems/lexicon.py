"""The words that fill the templates: few of them, so that a tiny tokenizer gives each its own token."""

from __future__ import annotations

BOYS = ("Tom", "Ben", "Sam", "Max", "Leo", "Omar", "Ravi", "Hugo", "Ivan", "Paul")
GIRLS = ("Ana", "Mia", "Eva", "Zoe", "Lily", "Nora", "Kim", "Rosa", "Lena", "June")
NAMES = BOYS + GIRLS
OBJECTS = ("apples", "pens", "books", "cards", "coins", "shells", "stamps", "beads", "cakes", "eggs", "balls", "toys", "flowers", "nuts")
CONTAINERS = ("boxes", "bags", "baskets", "jars", "trays", "packs")

_PRONOUNS = dict.fromkeys(BOYS, "he") | dict.fromkeys(GIRLS, "she")


def pronoun(name: str) -> str | None:
    """``he`` or ``she`` for a name of the lexicon; None for any other name, which is then repeated instead."""
    return _PRONOUNS.get(name)
