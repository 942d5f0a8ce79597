"""Numbers as people and models write them: one written quantity to an exact rational, a percent flag and a unit."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from components.grading.units import FAMILIES, FAMILY_OF, MONEY, is_known, normalise_unit

RELATIVE_TOLERANCE = Fraction(1, 1000)
"""Two numbers that are not integers are equal within this (Xwin-Math's evaluator, arXiv 2403.04706)."""
FLOAT_NOISE = Fraction(1, 10**9)
"""An integer and a decimal are equal within this only: 9.999999999 is 10 after binary arithmetic, 9.99 is not."""
MAX_DIGITS = 4000
"""Longer numbers are left undecided (Python refuses to convert many more)."""
MAX_EXPONENT = 400
"""Larger exponents are left undecided: nobody means them, and exact arithmetic on them is slow."""

_SMALL = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen",
    "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_WORDS = {word: value for value, word in enumerate(_SMALL)} | {word: 10 * value for value, word in enumerate(_TENS, start=2)}
_MULTIPLIERS = {"hundred": 100, "thousand": 1000, "million": 10**6}

PLAIN = re.compile(r"[-+]?\d{1,4000}(?:\.\d{1,4000})?")
_DIGITS = r"(?:\d{1,3}(?:,\d{3}){1,12}(?!\d)|\d{1,3}(?: \d{3}){1,4}(?![\d/])|\d+)"
_DECIMAL = rf"(?:{_DIGITS}(?:\.\d*)?|\.\d+)"
_POWER = r"(?:[eE][-+]?\d{1,4}|[ ]{0,2}\*[ ]{0,2}10[ ]{0,2}(?:\^|\*\*)[ ]{0,2}\{?[ ]{0,2}[-+]?\d{1,4}[ ]{0,2}\}?)"
NUMBER = (
    r"(?:(?P<whole>\d{1,12}|\d{1,3}(?:,\d{3}){1,3})(?:[ ]{1,3}|[ ]and[ ])(?P<top>\d{1,12})[ ]{0,2}/[ ]{0,2}(?P<bottom>\d{1,12})"
    rf"|(?P<left>{_DECIMAL})[ ]{{0,2}}(?P<over>[/:])[ ]{{0,2}}(?P<right>{_DECIMAL})"
    rf"|(?P<decimal>{_DECIMAL})(?P<power>{_POWER})?"
    r"|10[ ]{0,2}(?:\^|\*\*)[ ]{0,2}\{?[ ]{0,2}(?P<ten>[-+]?\d{1,4})[ ]{0,2}\}?)"
)
"""One unsigned number. Every repetition of blanks is bounded: a text of nothing but blanks must not take quadratic time."""
_CURRENCY = r"(?:us\s?\$|\$|€|£|₹|¢|rs\.?\s|usd\s|eur\s|gbp\s)"
_LEAD = r"(?:(?:is|are|about|approximately|approx\.?|around|roughly|exactly|only|nearly|almost|a total of|≈|~|=)\s*)*"
_QUANTITY = re.compile(
    rf"{_LEAD}(?P<sign>[-+]\s*)?(?P<currency>{_CURRENCY}\s*)?(?P<sign2>[-+]\s*)?{NUMBER}(?P<thousand>k\b)?(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_REST = re.compile(
    r"\s*(?P<percent>%|percent\b|per cent\b|percentage points?\b)?\s*(?P<unit>[a-z°¢€£$'’. \-/()]*(?:\^\{?[23]\}?|²|³)?[a-z '’.\-]*)",
    re.IGNORECASE,
)


class Quantity(NamedTuple):
    """A number with what is written around it.

    Attributes:
        value: The number, exactly as written (``18 %`` has value 18).
        exact: Written as an integer or a fraction, so no rounding can be in it.
        places: Decimal places of a decimal, else 0.
        percent: Carries a percent sign.
        unit: Normalised unit words, empty for none.
        ambiguous: The reading is doubtful (``5m`` may be five metres or 5*m; ``3:30`` a time or a ratio).
    """

    value: Fraction
    exact: bool = True
    places: int = 0
    percent: bool = False
    unit: str = ""
    ambiguous: bool = False

    @property
    def money(self) -> bool:
        """Whether the unit is a currency."""
        return self.unit.split(" ")[0] in MONEY


def parse_quantity(text: str) -> Quantity | None:
    """One quantity that fills the whole (tidied) text: ``$1,200``, ``3 1/2 hours``, ``-4.0e3``, ``15 %``, ``twelve eggs``.

    Returns:
        The quantity, or None when the text is anything else (an expression, prose, several numbers).
    """
    if len(text) > 2 * MAX_DIGITS:
        return None
    if PLAIN.fullmatch(text):
        return plain_quantity(text)
    match = _QUANTITY.fullmatch(text)
    if not match:
        return _in_words(text)
    rest = _REST.fullmatch(match["rest"])
    if not rest:
        return _compound(text)
    read = _value(match)
    if read is None:
        return None
    value, exact, places = read
    if bool(match["sign"]) and bool(match["sign2"]):
        return None
    if (match["sign"] or match["sign2"] or "").strip() == "-":
        value = -value
    if match["thousand"]:
        if not match["currency"]:
            return None
        value *= 1000
    words = rest["unit"].strip(" .-()")
    attached = bool(words) and not rest["percent"] and match["rest"][:1].isalpha()
    if words.isalpha() and len(words) <= 2 and not is_known(words):
        return None
    if len(words.split()) > 8:
        return None
    time_of_day = match["over"] == ":" and len(match["right"]) == 2
    unit = normalise_unit(f"{match['currency'] or ''} {words}")
    return Quantity(value, exact, places, bool(rest["percent"]), unit, (attached and len(words) == 1) or time_of_day)


def plain_quantity(text: str) -> Quantity:
    """The quantity of a text that ``PLAIN`` matches."""
    if "." not in text:
        return Quantity(Fraction(int(text)))
    return Quantity(Fraction(text), False, len(text) - text.index(".") - 1)


def _value(match: re.Match[str]) -> tuple[Fraction, bool, int] | None:
    """Value, exactness and decimal places of a NUMBER match; None for a zero denominator or an absurd size."""
    if match["whole"]:
        top, bottom = int(match["top"]), int(match["bottom"])
        return (int(match["whole"].replace(",", "")) + Fraction(top, bottom), True, 0) if top < bottom else None
    if match["left"]:
        left, right = _decimal(match["left"]), _decimal(match["right"])
        if left is None or right is None or not right[0]:
            return None
        return left[0] / right[0], left[1] and right[1], 0
    if match["ten"]:
        exponent = int(match["ten"])
        return (Fraction(10) ** exponent, True, 0) if abs(exponent) <= MAX_EXPONENT else None
    read = _decimal(match["decimal"])
    if read is None or not match["power"]:
        return read
    exponent = int(re.sub(r"[\s{}]", "", re.split(r"[eE^]|\*\*", match["power"])[-1]))
    return (read[0] * Fraction(10) ** exponent, False, 0) if abs(exponent) <= MAX_EXPONENT else None


def _decimal(text: str) -> tuple[Fraction, bool, int] | None:
    digits = text.replace(",", "").replace(" ", "")
    if len(digits) > MAX_DIGITS:
        return None
    whole, point, decimals = digits.partition(".")
    return Fraction(f"{whole or '0'}{point}{decimals or '0'}" if point else whole), not decimals, len(decimals)


def _in_words(text: str) -> Quantity | None:
    """``twelve eggs``, ``one hundred and twenty-five``: small whole numbers in words, then perhaps a unit."""
    words = re.findall(r"[a-z]+", text.lower())
    if not words or len(words) > 12 or not re.fullmatch(r"[A-Za-z\s,.'’\-]+", text) or words[0] not in _WORDS:
        return None
    total, current, used = 0, 0, 0
    for word in words:
        if word in _WORDS:
            current += _WORDS[word]
        elif word in _MULTIPLIERS:
            current *= _MULTIPLIERS[word]
            if word != "hundred":
                total, current = total + current, 0
        elif word != "and" or used + 1 >= len(words) or words[used + 1] not in _WORDS:
            break
        used += 1
    rest = words[used:]
    if "and" in rest or "or" in rest or "to" in rest or any(word in _WORDS for word in rest) or (rest and len(rest[0]) == 1):
        return None
    return Quantity(Fraction(total + current), unit=normalise_unit(" ".join(rest)))


_PART = re.compile(rf"\s*(?:,|and\b)?\s*(?P<currency>\$)?{NUMBER}\s*(?P<unit>[a-z]+)?", re.IGNORECASE)


def _compound(text: str) -> Quantity | None:
    """``2 hours and 30 minutes``, ``5 feet 3 inches``: parts in falling units of one family, as a number of the first unit."""
    position, total, family, first, last = 0, Fraction(0), "", Fraction(1), None
    first_unit = ""
    while position < len(text):
        match = _PART.match(text, position)
        read = _value(match) if match else None
        if match is None or read is None:
            return None
        unit = normalise_unit(f"{match['currency'] or ''} {match['unit'] or ''}")
        kind = FAMILY_OF.get(unit, "")
        if not kind or kind == "count" or (family and kind != family):
            return None
        scale = FAMILIES[kind][unit]
        if last is None:
            family, first, first_unit = kind, scale, unit
        elif scale >= last:
            return None
        last = scale
        total += read[0] * scale
        position = match.end()
    return Quantity(total / first, unit=first_unit) if last is not None and last != first else None


def bare_value(quantity: Quantity) -> Fraction:
    """The number without its unit; words that only multiply (``5 million``) are worked in."""
    return quantity.value * FAMILIES["count"].get(quantity.unit.split(" ")[0], 1)


def numbers_equal(left: Quantity, right: Quantity, ratio: Fraction = Fraction(1)) -> bool:
    """Whether ``left.value * ratio`` and ``right.value`` are the same number.

    Integers and fractions are compared exactly. Where a decimal takes part, two numbers that are not integers are equal within
    ``RELATIVE_TOLERANCE``, except amounts of money with cents, which are compared to the cent.
    """
    a, b = left.value * ratio, right.value
    if a == b:
        return True
    if left.exact and right.exact:
        return False
    tolerance = FLOAT_NOISE if a.denominator == 1 or b.denominator == 1 else RELATIVE_TOLERANCE
    if (left.money or right.money) and max(left.places, right.places) <= 2:
        tolerance = FLOAT_NOISE
    return abs(a - b) <= tolerance * max(abs(a), abs(b))


def compare_quantities(left: Quantity, right: Quantity) -> bool | None:
    """Whether two quantities are the same; None when the units leave it open. Symmetric.

    A missing unit agrees with any unit, a missing percent sign with any percentage (``18 %`` is ``18`` and ``0.18``). Units of one
    family are converted (``50 cents`` is ``$0.50``).
    """
    same = numbers_equal(left, right)
    if left.percent != right.percent:
        percent, other = (left, right) if left.percent else (right, left)
        if other.unit and not same:
            return False
        return same or numbers_equal(percent, other, Fraction(1, 100))
    if left.ambiguous or right.ambiguous:
        return True if same and left.unit == right.unit and left.ambiguous == right.ambiguous else None
    if left.unit == right.unit:
        return same
    families = FAMILY_OF.get(left.unit), FAMILY_OF.get(right.unit)
    if not left.unit or not right.unit:
        named, bare = (left, right) if left.unit else (right, left)
        return _against_bare(named, bare, same)
    if families[0] and families[0] == families[1]:
        scales = FAMILIES[families[0]]
        return numbers_equal(left, right, scales[left.unit] / scales[right.unit])
    if not same:
        return False
    mine, others = set(left.unit.split()), set(right.unit.split())
    return True if mine <= others or others <= mine else None


def _against_bare(named: Quantity, bare: Quantity, same: bool) -> bool | None:
    """A quantity with a unit against a bare number: open when a conversion within the unit's family would make them equal."""
    head = named.unit.split(" ")[0]
    family = FAMILY_OF.get(head, "")
    if family == "count":
        if numbers_equal(named, bare, FAMILIES[family][head]):
            return True
        return None if same else False
    if same:
        return True
    scales = FAMILIES.get(family, {})
    return None if any(numbers_equal(named, bare, scales[head] / scale) for scale in scales.values() if scale != scales[head]) else False
