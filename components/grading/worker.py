"""The process behind ``answer_symbols``: reads pairs of expressions, one JSON line each, and answers true, false or null.

SymPy can take for ever or eat all memory on input that a model wrote (9^9^9), therefore it lives in a process of its own that
the parent kills. Exact comparison comes before floating point: 1/1900! and 1/1902! differ although both round to zero.
"""

from __future__ import annotations

import json
import logging
import random
import re
import resource
import sys
from typing import Any

import sympy
from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

MEMORY_LIMIT = 4 << 30
"""Address space of the worker in bytes."""
DIGITS = 60
"""Decimal digits of the numeric check between exact expressions."""
TOLERANCE = 1e-3


def read_expression(text: str) -> Any:
    """Parse LaTeX or a plain expression with Math-Verify; None when it is neither.

    A bare prediction (``pi/2``, ``(1, 2)``) is wrapped in math delimiters first: Math-Verify reads a part of it otherwise. Plain
    function names get the backslash that makes them one symbol. Symbols lose the assumptions that Math-Verify guesses from context, since
    two symbols of one name and different assumptions are never equal; ``i`` is the imaginary unit.
    """
    text = re.sub(r"(?<!\\)\b(pi|sqrt|sin|cos|tan|cot|ln|log|exp|infty)\b", r"\\\1", text)
    text = re.sub(r"\\sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}", text)
    text = re.sub(r"\\exp\s*\(([^()]*)\)", r"e^{\1}", text)
    text = text.replace("**", "^").replace("*", " \\cdot ")
    text = re.sub(r"\^\s*\(?(\d+)\s*\^\s*(\d+)\)?", r"^{\1^{\2}}", text)
    text = re.sub(r"\^\s*(-?\d{2,})", r"^{\1}", text)
    text = re.sub(r"\^\s*\(([^()]*)\)", r"^{\1}", text)
    text = re.sub(r"(?<![\\\w])(\d+|[a-z])\s*/\s*(\d+|[a-z])(?![\w(!^])", r"\\frac{\1}{\2}", text)
    found = parse(f"${text}$", extraction_config=[LatexExtractionConfig(), ExprExtractionConfig()], parsing_timeout=None)
    expression = next((item for item in found if not isinstance(item, str)), None)
    if expression is None:
        return None
    return expression.xreplace({symbol: sympy.I if symbol.name == "i" else sympy.Symbol(symbol.name) for symbol in expression.free_symbols})


def expressions_equal(left: str, right: str) -> bool | None:
    """Whether two texts denote the same expression; None when one cannot be read or nothing settles it."""
    a, b = read_expression(left), read_expression(right)
    if a is None or b is None:
        return None
    if a == b:
        return True
    if isinstance(a, sympy.Expr) and isinstance(b, sympy.Expr):
        return _scalars_equal(a, b)
    if verify(a, b, strict=True, timeout_seconds=None) or verify(b, a, strict=True, timeout_seconds=None):
        return True
    return False if type(a) is type(b) else None


def _scalars_equal(a: Any, b: Any) -> bool | None:
    difference = a - b
    if a.has(sympy.Float) or b.has(sympy.Float):
        if difference.free_symbols:
            return _equal_everywhere(sympy.nsimplify(difference, rational=True))
        if a.is_integer or b.is_integer:
            return bool(sympy.nsimplify(difference, rational=True) == 0)
        size = max(abs(complex(a)), abs(complex(b)))
        return bool(abs(complex(difference)) <= TOLERANCE * size)
    if difference.free_symbols:
        return _equal_everywhere(difference)
    if difference.is_zero is not None:
        return bool(difference.is_zero)
    size = max(abs(sympy.N(a, DIGITS)), abs(sympy.N(b, DIGITS)))
    if abs(sympy.N(difference, DIGITS)) > size * sympy.Float(10, DIGITS) ** (10 - DIGITS):
        return False
    settled = difference.equals(0)
    return bool(settled) if settled is not None else bool(sympy.simplify(difference) == 0)


def _equal_everywhere(difference: Any) -> bool | None:
    """Whether an expression with variables is zero: a point where it is not settles no, simplification settles yes."""
    generator = random.Random(0)
    symbols = sorted(difference.free_symbols, key=str)
    for _ in range(3):
        point = {symbol: sympy.Rational(generator.randint(2, 97), generator.randint(2, 13)) for symbol in symbols}
        value = sympy.N(difference.subs(point), DIGITS)
        if value.is_number and value.is_finite and abs(value) > sympy.Float(10) ** (20 - DIGITS):
            return False
    return True if sympy.simplify(difference) == 0 else None


def main() -> None:
    """Serve until standard input closes."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    logging.disable(logging.WARNING)
    answers = sys.stdout
    sys.stdout = sys.stderr
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        left, right = json.loads(line)
        try:
            verdict = expressions_equal(left, right)
        except (
            ArithmeticError,
            AttributeError,
            MemoryError,
            NotImplementedError,
            RecursionError,
            TypeError,
            ValueError,
            sympy.SympifyError,
        ):
            verdict = None
        print(json.dumps(verdict), file=answers, flush=True)


if __name__ == "__main__":
    main()
