"""Units of answers: one spelling for each, and families whose units convert into one another exactly."""

from __future__ import annotations

import re
from fractions import Fraction

FAMILIES: dict[str, dict[str, Fraction]] = {
    "count": {"hundred": Fraction(100), "thousand": Fraction(10**3), "million": Fraction(10**6), "billion": Fraction(10**9),
              "trillion": Fraction(10**12), "dozen": Fraction(12)},
    "money": {"cent": Fraction(1), "dollar": Fraction(100)},
    "metric length": {"mm": Fraction(1), "cm": Fraction(10), "m": Fraction(1000), "km": Fraction(10**6)},
    "imperial length": {"inch": Fraction(1), "foot": Fraction(12), "yard": Fraction(36), "mile": Fraction(63360)},
    "metric mass": {"mg": Fraction(1), "g": Fraction(1000), "kg": Fraction(10**6)},
    "imperial mass": {"ounce": Fraction(1), "pound": Fraction(16)},
    "time": {"second": Fraction(1), "minute": Fraction(60), "hour": Fraction(3600), "day": Fraction(86400), "week": Fraction(604800)},
    "years": {"month": Fraction(1), "year": Fraction(12), "decade": Fraction(120)},
    "metric volume": {"ml": Fraction(1), "cl": Fraction(10), "l": Fraction(1000)},
    "imperial volume": {"cup": Fraction(1), "pint": Fraction(2), "quart": Fraction(4), "gallon": Fraction(16)},
}  # fmt: skip
"""Family to unit to its size in the family's smallest unit."""
FAMILY_OF = {unit: family for family, units in FAMILIES.items() for unit in units}
MONEY = ("dollar", "cent", "euro", "rupee")
_SPELLINGS = {
    "$": "dollar", "usd": "dollar", "buck": "dollar", "¢": "cent", "€": "euro", "eur": "euro", "£": "pound", "gbp": "pound",
    "₹": "rupee", "rs": "rupee", "millimeter": "mm", "millimetre": "mm", "centimeter": "cm", "centimetre": "cm", "meter": "m", "metre": "m",
    "kilometer": "km", "kilometre": "km", "inches": "inch", "in": "inch", "feet": "foot", "ft": "foot", "yd": "yard", "mi": "mile",
    "milligram": "mg", "gram": "g", "kilogram": "kg", "kilo": "kg", "oz": "ounce", "lb": "pound", "sec": "second", "min": "minute",
    "hr": "hour", "h": "hour", "s": "second", "yr": "year", "milliliter": "ml", "millilitre": "ml", "liter": "l", "litre": "l",
    "gal": "gallon", "qt": "quart", "°": "degree", "people": "person", "children": "child",
}  # fmt: skip


def is_known(word: str) -> bool:
    """Whether a word is a unit with a place in the tables."""
    return word.lower() in _SPELLINGS or word.lower() in FAMILY_OF


def normalise_unit(text: str) -> str:
    """Unit words in one spelling and in the singular: ``US$`` to ``dollar``, ``Feet`` to ``foot``, ``duck eggs`` to ``duck egg``."""
    words = []
    for word in re.findall(r"[$€£₹¢°]|[a-z]+|[/^23²³]", text.lower().replace("us$", "$").replace("us $", "$")):
        single = word[:-1] if len(word) > 2 and word.endswith("s") and not word.endswith("ss") else word
        words.append(_SPELLINGS.get(word) or _SPELLINGS.get(single) or single)
    if words[:1] == words[1:2]:
        words = words[1:]
    return " ".join(words)
