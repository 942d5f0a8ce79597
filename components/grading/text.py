"""Clean-up of answer text before it is read: Unicode, Markdown and the LaTeX that only decorates."""

from __future__ import annotations

import re

_TABLE = str.maketrans({
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u2007": " ", "\u200b": "",
    "×": "*", "·": "*", "÷": "/", "⁄": "/", "％": "%", "：": ":", "，": ",", "（": "(", "）": ")",
    "°": " degrees ", "π": "\\pi ", "∞": "\\infty ", "√": "\\sqrt ", "±": "\\pm ",
    "½": " 1/2", "⅓": " 1/3", "⅔": " 2/3", "¼": " 1/4", "¾": " 3/4", "⅕": " 1/5", "⅛": " 1/8",
})  # fmt: skip
_SPACING = re.compile(r"(?<!\\)\\(?:left|right|displaystyle|!|,|;|:|quad|qquad|\s)(?![a-zA-Z])|~")
_TEXT = re.compile(r"\\(?:text|mbox|mathrm|textbf|textit|mathbf|textrm|operatorname|bf)\s*\{([^{}]*)\}")
_FRACTION = re.compile(
    r"(?<![\d)])(\d+)?\s*\\frac\s*(?:\{\s*([-+]?\d+(?:\.\d+)?)\s*\}|(\d))\s*(?:\{\s*(\d+(?:\.\d+)?)\s*\}|(\d))(?!\s*(?:[\d{\\(]|(?!(?:[kcm]m|[km]?g|ml|[a-zA-Z]{3,})\b)[a-zA-Z]))"
)


def tidy(text: str) -> str:
    """Remove decoration that carries no meaning; numeric ``\\frac`` becomes ``a/b``. The order of the rest is kept."""
    text = text.translate(_TABLE)
    if "\\" in text or "$" in text or "{" in text:
        text = _tidy_latex(text)
    if "*" in text or "_" in text or "`" in text:
        text = re.sub(r"(?<![\w)}])\*\*|\*\*(?![\w({\\])|__|`", "", text)
    if "^" in text:
        text = re.sub(r"(?<=\d)[ ]{0,2}[xX][ ]{0,2}(?=10[ ]{0,2}\^)", "*", text)
    text = " ".join(text.split())
    return re.sub(r"(?<=[^.])\.$|[,;:]$", "", text).strip() if text[-1:] in ".,;:" else text


def _tidy_latex(text: str) -> str:
    boxed = last_boxed(text)
    if boxed is not None:
        text = boxed
    text = text.replace("\\$", "¤").replace("\\%", "%").replace("{,}", ",").replace("$$", "$")
    text = re.sub(r"\\!\s*", "", text)
    text = re.sub(r"\\\(|\\\)|\\\[|\\\](?!\])", " ", text)
    text = re.sub(r"\$([^$]*)\$", r"\1", text).replace("¤", "$")
    text = re.sub(r"\^\s*(?:\\circ|\{\s*\\circ\s*\})", " degrees", text)
    text = re.sub(r"\\[dtc]frac", r"\\frac", text)
    text = _SPACING.sub(" ", text)
    text = _TEXT.sub(r" \1 ", text)
    text = re.sub(r"\\(?:times|cdot|ast)\b", "*", text)
    text = re.sub(r"\\div\b", "/", text)
    return _FRACTION.sub(_plain_fraction, text)


def _plain_fraction(match: re.Match[str]) -> str:
    whole, top, bottom = match[1], match[2] or match[3], match[4] or match[5]
    return f"{whole + ' ' if whole else ''}{top}/{bottom}"


def last_boxed(text: str) -> str | None:
    """Content of the last ``\\boxed{}`` or ``\\fbox{}``, nested braces included; an unclosed one runs to the end of its line."""
    start = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    if start < 0:
        return None
    position = start + (6 if text.startswith("\\boxed", start) else 5)
    rest = text[position:].lstrip()
    if not rest.startswith("{"):
        return rest.split("$")[0].split("\n")[0].strip() or None
    depth = 0
    for index, character in enumerate(rest):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return rest[1:index].strip()
    return rest[1:].split("\n")[0].strip() or None


def split_items(text: str) -> list[str]:
    """Split at commas, semicolons, ``and``, ``or`` outside brackets; a comma inside ``1,234`` does not split."""
    items, depth, start, index = [], 0, 0, 0
    separator = re.compile(r"\s*(?:,\s+and\b|,\s+or\b|;|\band\b|\bor\b|&|,(?!\d{3}(?!\d))|(?<!\d),)\s*", re.IGNORECASE)
    while index < len(text):
        character = text[index]
        depth += (character in "([{") - (character in ")]}")
        match = separator.match(text, index) if depth == 0 else None
        if match and match.end() > index and match.group().strip():
            items.append(text[start:index])
            start = index = match.end()
            continue
        index += 1
    items.append(text[start:])
    return [item.strip() for item in items if item.strip()]
