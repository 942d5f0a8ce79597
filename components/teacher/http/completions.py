"""What a chat completion looks like, from whichever server: whole, or in pieces as server-sent events."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

REASONING = ("reasoning_content", "reasoning")
"""Names under which servers keep a model's thinking apart from its text."""

_THOUGHT = re.compile(r"\s*<think>.*?(</think>|\Z)", re.DOTALL)
_END_OF_THOUGHT = "</think>"
_TEXTS = ("content", "refusal", *REASONING)
"""Fields of a delta that continue what came before."""


class StreamError(ValueError):
    """A stream that is no chat completion, or that broke off; the message is the server's where it sent one."""


class Message(msgspec.Struct):
    """The part of a choice that is used. Servers differ in what they put into it, so most of it is typed loosely."""

    content: str | list[Any] | None = None
    reasoning_content: Any = None
    reasoning: Any = None

    @property
    def written(self) -> str:
        """The content as it came; of a list of parts, the texts."""
        if not isinstance(self.content, list):
            return self.content or ""
        texts = (part.get("text") for part in self.content if isinstance(part, dict) and part.get("type", "text") == "text")
        return "".join(text for text in texts if isinstance(text, str))

    @property
    def text(self) -> str:
        """The content without the thinking that some servers leave at its start."""
        text = self.written
        thought = _THOUGHT.match(text)
        if thought is not None:
            return text[thought.end() :].strip()
        # Where the chat template itself opens the thought, only its end is in the reply.
        before, mark, after = text.partition(_END_OF_THOUGHT)
        return (after if mark and "<think>" not in before else text).strip()


class Choice(msgspec.Struct):
    """One reply."""

    message: Message
    finish_reason: str | None = None


class TokenCounts(msgspec.Struct):
    """The endpoint's count."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class Completion(msgspec.Struct):
    """The part of a chat completion that is used; the store keeps all of it."""

    choices: list[Choice]
    usage: TokenCounts | None = None

    @property
    def text(self) -> str:
        """Text of the reply, without what the model thought before it; empty when there is none."""
        return self.choices[0].message.text if self.choices else ""

    @property
    def characters(self) -> int:
        """Length of everything that the model wrote, its thinking too: what an estimate of the tokens goes by."""
        if not self.choices:
            return 0
        message = self.choices[0].message
        thoughts = (message.reasoning_content, message.reasoning)
        # Some servers send the same thinking under both names.
        return len(message.written) + max(len(thought) if isinstance(thought, str) else 0 for thought in thoughts)


class _Sent(msgspec.Struct):
    """A completion as it came. Whatever a server writes in the place of its counts, the reply has been paid for and is good."""

    choices: list[Choice]
    usage: Any = None


_decode = msgspec.json.Decoder(_Sent).decode


def decode_completion(raw: bytes) -> Completion:
    """The completion that a reply is.

    Raises:
        msgspec.DecodeError: It is none.
    """
    sent = _decode(raw)
    completion = Completion(sent.choices)
    if isinstance(sent.usage, dict):
        counts = TokenCounts(_count(sent.usage.get("prompt_tokens")), _count(sent.usage.get("completion_tokens")))
        # No request is free of tokens, nor is a text: a server that reports none has not counted.
        if counts.prompt_tokens and (counts.completion_tokens or not completion.characters):
            completion.usage = counts
    return completion


def _count(value: Any) -> int:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
    return int(value) if usable else 0


def assemble_stream(raw: bytes) -> bytes:
    """Put the pieces of a streamed chat completion together.

    Args:
        raw: Body of the response: server-sent events that hold chat.completion.chunk objects.

    Returns:
        The JSON of the chat.completion that they add up to, as the server would have sent it in one piece: reasoning kept in its own
        fields, usage from the last chunk that has one.

    Raises:
        StreamError: There is an error event, an event that is no chunk, or an end before every choice had a finish reason or the
            stream said that it is done. What came until then is never taken for a shorter reply.
    """
    head: dict[str, Any] = {}
    usage: Any = None
    choices: dict[int, dict[str, Any]] = {}
    done = False
    for data in _events(raw):
        if data.strip() == b"[DONE]":
            done = True
            break
        chunk = _chunk(data)
        head = head or {name: chunk[name] for name in ("id", "created", "model", "system_fingerprint") if name in chunk}
        usage = chunk.get("usage") or usage
        pieces = chunk.get("choices") or []
        if not isinstance(pieces, list):
            raise StreamError("the stream holds choices that are no list")
        for piece in pieces:
            _add(choices, piece)
    unfinished = [choice for choice in choices.values() if not choice["finish_reason"]]
    if not choices or (unfinished and not done):
        raise StreamError("the stream broke off before the reply was complete")
    whole = {**head, "object": "chat.completion", "choices": [choices[index] for index in sorted(choices)]}
    return msgspec.json.encode({**whole, "usage": usage} if usage else whole)


def _events(raw: bytes) -> Iterator[bytes]:
    """Data of each server-sent event; its lines may end as on any system.

    Raises:
        StreamError: The server reports an error outside the events' data.
    """
    lines: list[bytes] = []
    kind = b""
    # The empty line ends a last event that lacks it: half an event does not decode, a whole one counts.
    for line in [*raw.removeprefix(b"\xef\xbb\xbf").splitlines(), b""]:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            lines.append(value)
        elif name == b"event":
            kind = value
        elif name == b"error":
            raise StreamError(_said(value))
        elif not line:
            if lines and kind == b"error":
                raise StreamError(_said(b"\n".join(lines)))
            # Some keep the connection open with events that hold nothing.
            if any(lines):
                yield b"\n".join(lines)
            lines, kind = [], b""


def _chunk(data: bytes) -> dict[str, Any]:
    try:
        chunk = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StreamError(f"the stream holds something that is no JSON ({error})") from error
    if not isinstance(chunk, dict) or chunk.get("error"):
        raise StreamError(_said(data))
    return chunk


def _said(data: bytes) -> str:
    """What an error event says, for people."""
    try:
        error: Any = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        error = data.decode(errors="replace")
    for name in ("error", "message"):
        if isinstance(error, dict):
            error = error.get(name) or error
    return f"the stream ended with an error: {' '.join(str(error).split())[:300]}"


def _add(choices: dict[int, dict[str, Any]], piece: Any) -> None:
    index = (piece.get("index") or 0) if isinstance(piece, dict) else None
    if not isinstance(index, int):
        raise StreamError("the stream holds a choice that is no object")
    choice = choices.setdefault(index, {"index": index, "message": {"role": "assistant", "content": None}, "finish_reason": None})
    delta = piece.get("delta") or {}
    if not isinstance(delta, Mapping):
        raise StreamError("the stream holds a delta that is no object")
    message = choice["message"]
    for name, value in delta.items():
        if value is not None:
            message[name] = _joined(message.get(name), value) if name in _TEXTS or isinstance(value, list) else value
    choice["finish_reason"] = piece.get("finish_reason") or choice["finish_reason"]


def _joined(before: Any, value: Any) -> Any:
    """A text or a list, continued; a text that a list continues becomes the first part of it."""
    if before is None:
        return value
    if isinstance(before, str) and isinstance(value, str):
        return before + value
    return [*_parts(before), *_parts(value)]


def _parts(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    return [{"type": "text", "text": value}] if value else []
