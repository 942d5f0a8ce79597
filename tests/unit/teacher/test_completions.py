"""Replies of many servers, whole and streamed: the text comes out exactly, and half a reply is none."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.teacher.http.completions import StreamError, TokenCounts, assemble_stream, decode_completion

USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


def reply(content: Any, **more: Any) -> bytes:
    return msgspec.json.encode({"choices": [{"message": {"role": "assistant", "content": content, **more}, "finish_reason": "stop"}]})


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (" 17 \n", "17"),
        (None, ""),
        ([], ""),
        ([{"type": "text", "text": "1"}, {"type": "text", "text": "7"}], "17"),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "17"}], "17"),
        ([{"type": "image_url", "image_url": {"url": "x"}}, {"text": "17"}, {"type": "text", "text": None}, "odd"], "17"),
        ("<think>hm\n\nhm</think>\n\n17", "17"),
        ("\n <think></think>17", "17"),
        ("<think>16? <think> no</think> 17", "17"),
        ("<think>17, or was it", ""),
        ("hm, 16?</think>\n17", "17"),
        ("the tags <think> and </think> are part of it", "the tags <think> and </think> are part of it"),
        ([{"type": "text", "text": "<think>hm</think>17"}], "17"),
    ],
)
def test_text_of_a_reply(content: Any, text: str) -> None:
    assert decode_completion(reply(content)).text == text


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize("content", ["17", None])
def test_reasoning_is_no_text_but_counts_as_written(name: str, content: str | None) -> None:
    completion = decode_completion(reply(content, **{name: "ten and seven"}))
    assert completion.text == (content or "")
    assert completion.characters == 13 + len(content or "")
    assert (
        decode_completion(reply(content, reasoning="ten and seven", reasoning_content="ten and seven")).characters == completion.characters
    )
    assert decode_completion(reply(content, **{name: {"odd": 1}})).text == (content or "")


def test_thinking_in_the_content_counts_as_written() -> None:
    assert decode_completion(reply("<think>hm</think>17")).characters == 19
    assert decode_completion(b'{"choices": []}').characters == 0
    assert decode_completion(b'{"choices": []}').text == ""


@pytest.mark.parametrize(
    ("usage", "known"),
    [
        ({}, None),
        (None, None),
        (5, None),
        ([1, 2], None),
        ({"prompt_tokens": 0, "completion_tokens": 0}, None),
        (USAGE, TokenCounts(5, 2)),
        ({"prompt_tokens": 5.0, "completion_tokens": 2.0}, TokenCounts(5, 2)),
        ({"prompt_tokens": None, "completion_tokens": None}, None),
        ({"completion_tokens": 1}, None),
        ({"prompt_tokens": 5, "completion_tokens": None}, None),
        ({"prompt_tokens": "5", "completion_tokens": 2}, None),
        ({"prompt_tokens": 5, "completion_tokens": -2}, None),
        ({"prompt_tokens": True, "completion_tokens": 2}, None),
    ],
)
def test_whatever_is_counted_the_reply_is_good(usage: Any, known: TokenCounts | None) -> None:
    completion = decode_completion(msgspec.json.encode({**msgspec.json.decode(reply("17")), "usage": usage}))
    assert (completion.text, completion.usage) == ("17", known)


def test_no_text_needs_no_tokens() -> None:
    raw = msgspec.json.encode({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 0}})
    assert decode_completion(raw).usage == TokenCounts(5, 0)


def chunk(delta: Any = None, finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    choices = [] if delta is None else [{"index": index, "delta": delta, "finish_reason": finish}]
    return {"id": "c", "object": "chat.completion.chunk", "created": 3, "model": "m", "choices": choices, **more}


def sse(*events: Any, end: str = "\n", done: bool = True) -> bytes:
    lines = [f"data: {msgspec.json.encode(event).decode()}{end}{end}" for event in events]
    return "".join([*lines, f"data: [DONE]{end}{end}" if done else ""]).encode()


def test_a_stream_becomes_the_reply_that_it_adds_up_to() -> None:
    raw = sse(
        chunk({"role": "assistant", "content": None}, usage=None),
        chunk({"reasoning_content": "h"}),
        chunk({"reasoning_content": "m"}),
        chunk({"content": "1"}, usage={"prompt_tokens": 5, "completion_tokens": 1}),
        chunk({"content": "7"}),
        chunk({}, "length"),
        chunk(usage=USAGE),
    )
    assert msgspec.json.decode(assemble_stream(raw)) == {
        "id": "c",
        "created": 3,
        "model": "m",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "17", "reasoning_content": "hm"}, "finish_reason": "length"}],
        "usage": USAGE,
    }


def two_choices() -> bytes:
    return sse(
        chunk({"content": "b"}, index=1), chunk({"content": "a"}), chunk({"content": "B"}, "stop", 1), chunk({"content": "A"}, "stop")
    )


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (sse(chunk({"content": "a"}), chunk({"content": "b"}, "stop"), done=False), "ab"),
        (sse(chunk({"content": "a"}), chunk({"content": "b"})), "ab"),
        (sse(chunk({"content": "a"}, "stop"), end="\r\n"), "a"),
        (sse(chunk({"content": "a"}, "stop"), end="\r"), "a"),
        (b": ping\n\n" + sse(chunk({"content": "a"})) + b": ping\n", "a"),
        (b"\xef\xbb\xbf" + sse(chunk({"content": "a"})), "a"),
        (b"id: 4\nevent: message\nretry: 9\n" + sse(chunk({"content": "a"})), "a"),
        (b'data:{"choices":\ndata: [{"delta":\r\ndata:{"content":"a"},"finish_reason":"stop"}]}\n\n', "a"),
        (sse(chunk({"content": "a"})).rstrip(b"\n"), "a"),
        (sse(chunk({"content": [{"type": "text", "text": "a"}]}), chunk({"content": [{"type": "text", "text": "b"}]}, "stop")), "ab"),
        (sse(chunk({"content": ""}), chunk({"content": [{"type": "text", "text": "a"}]}), chunk({"content": "b"}, "stop")), "ab"),
        (sse(chunk({"content": "a"}, ""), chunk({"content": "b"}, "stop")), "ab"),
        (two_choices(), "aA"),
        (sse(chunk({"content": "a"}, "stop"), chunk({"role": "assistant"})), "a"),
        (sse(chunk({"content": "a"}, "stop")) + sse({"error": "after the end"}), "a"),
        (b"data:\n\ndata: \n\n" + sse(chunk({"content": "a"}, "stop")), "a"),
        (b'data: {"choices": [{"index": null, "delta": {"content": "a"}}]}\n\n' + sse(chunk({"content": "b"}, "stop")), "ab"),
    ],
    ids=range(17),
)
def test_whatever_the_stream_looks_like(raw: bytes, text: str) -> None:
    assert decode_completion(assemble_stream(raw)).text == text


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "broke off"),
        (b"data: [DONE]\n\n", "broke off"),
        (sse(chunk({"content": "a"}), done=False), "broke off"),
        (sse(chunk({"content": "a"}), chunk({"content": "b"}), done=False)[:-30], "no JSON"),
        (sse(chunk({"content": "a"}, "stop"), chunk({"content": "b"}, index=1), done=False), "broke off"),
        (b"<html>502</html>", "broke off"),
        (b"data: <html>\n\n", "no JSON"),
        (b"data: [1]\n\n", "error: \\[1\\]"),
        (b'data: {"choices": [1]}\n\n', "no object"),
        (b'data: {"choices": [{"index": "x"}]}\n\n', "no object"),
        (b'data: {"choices": 5}\n\n', "no list"),
        (b'data: {"choices": [{"delta": "x"}]}\n\n', "no object"),
        (sse(chunk({"content": "a"}), {"error": {"message": "out of\nmemory", "code": 500}}), "error: out of memory"),
        (sse(chunk({"content": "a"}), {"error": "out of memory"}), "error: out of memory"),
        (b'event: error\ndata: {"message": "out of memory"}\n\n', "error: out of memory"),
        (b"event: error\ndata: out of memory\n\n", "error: out of memory"),
        (sse(chunk({"content": "a"}, "stop"), done=False) + b'error: {"message": "out of memory"}\n\n', "error: out of memory"),
        (b'data: {"choices": [{"delta": {"content": "\xff"}, "finish_reason": "stop"}]}\n\n', "no JSON"),
    ],
    ids=range(18),
)
def test_what_is_no_whole_reply_is_none(raw: bytes, message: str) -> None:
    with pytest.raises(StreamError, match=message):
        assemble_stream(raw)


@st.composite
def pieces(draw: st.DrawFn) -> list[str]:
    """Any text, in any pieces."""
    text = draw(st.text(max_size=60) | st.text('</think>da: [DONE]\r\n\\"\u2028\u0085', max_size=60))
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@given(pieces(), pieces(), st.sampled_from(["\n", "\r\n", "\r"]), st.booleans())
def test_any_text_in_any_pieces_comes_back_exactly(texts: list[str], thoughts: list[str], end: str, comments: bool) -> None:
    events = [*(chunk({"reasoning": piece}) for piece in thoughts), *(chunk({"content": piece}) for piece in texts), chunk({}, "stop")]
    raw = sse(*events, end=end)
    if comments:
        raw = raw.replace(f"{end}{end}".encode(), f"{end}: ping{end}{end}".encode())
    message = msgspec.json.decode(assemble_stream(raw))["choices"][0]["message"]
    assert (message["content"], message["reasoning"]) == ("".join(texts), "".join(thoughts))


@given(pieces(), st.data())
def test_no_cut_makes_a_shorter_reply(texts: list[str], data: st.DataObject) -> None:
    raw = sse(*(chunk({"content": piece}) for piece in texts), chunk({}, "stop"), chunk(usage=USAGE))
    cut = data.draw(st.integers(0, len(raw)))
    try:
        whole = msgspec.json.decode(assemble_stream(raw[:cut]))
    except StreamError:
        return
    assert whole["choices"][0]["message"]["content"] == "".join(texts)
    assert whole["choices"][0]["finish_reason"] == "stop"
