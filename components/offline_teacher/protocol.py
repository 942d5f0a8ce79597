"""The part of the OpenAI chat-completions protocol that is spoken here, and the labelled sections inside it."""

from __future__ import annotations

import hashlib
import re
import time
from typing import Annotated, Any

import msgspec

CHARACTERS_PER_TOKEN = 4
"""Tokens are estimated by this usual rule of thumb for English."""


class ContentPart(msgspec.Struct):
    """A part of a message; only text is read."""

    type: str = "text"
    text: str = ""


class Message(msgspec.Struct):
    """One message."""

    role: str
    content: str | list[ContentPart] | None = None
    name: str | None = None

    @property
    def text(self) -> str:
        """The text of all parts."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content or ""


class ChatRequest(msgspec.Struct):
    """A request; fields that do not matter here are ignored."""

    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    model: str = ""
    temperature: float | None = None
    top_p: float | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=128)] | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    seed: int | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None

    @property
    def sample(self) -> int:
        """Index among several replies to the same chat; always 0 at temperature 0."""
        return (self.seed or 0) if self.temperature is None or self.temperature > 0 else 0

    @property
    def limit(self) -> int | None:
        """Longest reply in tokens."""
        return self.max_completion_tokens or self.max_tokens

    def digest(self) -> str:
        """Hash of what is asked, the same however the JSON was laid out and whether or not it is streamed."""
        same = msgspec.structs.replace(self, stream=None, stream_options=None)
        return hashlib.sha256(msgspec.json.encode(same)).hexdigest()


decode_request = msgspec.json.Decoder(ChatRequest).decode

_SECTIONS = {
    "ask_me_anything": ("Problem", "Answer"),
    "suggest": ("Objective", "Problem"),
    "edit": ("Objective", "Problem", "Suggestions"),
    "solve": ("Problem",),
    "judge": ("Problem", "Reference answer", "Student's answer"),
    "solvable": ("Problem",),
    "explain": ("Problem", "Reference answer", "Solution"),
    "generate": (),
}
TASKS = tuple(_SECTIONS)
CHAT = "chat"
"""The task of a request that names none."""
_TASK = re.compile(r"\s*[*_#\s]*Task[*_]*\s*:[*_\s]*(\w+)", re.IGNORECASE)
_LABELS = {
    task: re.compile(rf"^[ \t>*_#-]*({'|'.join(map(re.escape, labels))})[*_]*[ \t]*:[*_]*[ \t]*", re.IGNORECASE | re.MULTILINE)
    for task, labels in _SECTIONS.items()
    if labels
}


def task_of(request: ChatRequest) -> str:
    """Name of the task on the first line of the system message (or of the first message, without one)."""
    openings = [message.text for message in request.messages if message.role in ("system", "developer")] or [request.messages[0].text]
    for text in openings:
        match = _TASK.match(text.lstrip().split("\n", 1)[0])
        if match and match[1].lower() in _SECTIONS:
            return match[1].lower()
    return CHAT


def sections_of(request: ChatRequest, task: str) -> dict[str, str]:
    """The labelled sections of the user messages, by label in lower case; the last occurrence of each label counts.

    A section runs to the next label of its task or to the end of its message.
    """
    found: dict[str, str] = {}
    label = _LABELS.get(task)
    if label is None:
        return found
    for message in request.messages:
        if message.role != "user":
            continue
        text = message.text.replace("’", "'")
        marks = list(label.finditer(text))
        ends = [mark.start() for mark in marks[1:]] + [len(text)]
        for mark, end in zip(marks, ends, strict=False):
            found[mark[1].lower()] = text[mark.end() : end].strip()
    return found


def last_user_text(request: ChatRequest) -> str:
    """Text of the last user message; empty without one."""
    return next((message.text for message in reversed(request.messages) if message.role == "user"), "")


def tokens(text: str) -> int:
    """Estimated number of tokens."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def cut(text: str, limit: int | None) -> tuple[str, str]:
    """Cut a reply to its limit in tokens; return it with its finish reason."""
    if limit is None or tokens(text) <= limit:
        return text, "stop"
    return text[: limit * CHARACTERS_PER_TOKEN], "length"


def completion(request: ChatRequest, identifier: str, texts: list[str]) -> dict[str, Any]:
    """The body of an answer, one choice for each text."""
    parts = [cut(text, request.limit) for text in texts]
    prompt = sum(tokens(message.text) for message in request.messages)
    reply = sum(tokens(text) for text, _ in parts)
    return {
        "id": identifier,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request.model,
        "choices": [
            {"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": reason, "logprobs": None}
            for index, (text, reason) in enumerate(parts)
        ],
        "usage": {"prompt_tokens": prompt, "completion_tokens": reply, "total_tokens": prompt + reply},
    }


def stream_events(answer: dict[str, Any]) -> list[bytes]:
    """The server-sent events that carry the same answer word by word, its thinking first and its usage, if there is one, last."""
    head = {key: answer[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    events: list[dict[str, Any]] = []
    for choice in answer["choices"]:
        message = choice["message"]
        content = message["content"]
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"reasoning_content": piece} for piece in _pieces(message.get("reasoning_content", ""))]
        if isinstance(content, str):
            deltas += [{"content": piece} for piece in _pieces(content)]
        else:
            deltas += [{"content": [{"type": "text", "text": piece}]} for part in content for piece in _pieces(part["text"])]
        events += [{**head, "choices": [{"index": choice["index"], "delta": delta, "finish_reason": None}]} for delta in deltas]
        events.append({**head, "choices": [{"index": choice["index"], "delta": {}, "finish_reason": choice["finish_reason"]}]})
    if "usage" in answer:
        events.append({**head, "choices": [], "usage": answer["usage"]})
    return [b"data: " + msgspec.json.encode(event) + b"\n\n" for event in events] + [b"data: [DONE]\n\n"]


def _pieces(text: str) -> list[str]:
    return re.findall(r"\S+\s*|\s+", text)


def error_body(message: str, kind: str, code: str | None = None) -> bytes:
    """An error in the protocol's form."""
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": None, "code": code}})
