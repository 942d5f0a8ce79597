"""Is the teacher there, does it accept the key, does it offer the model; are the stores there? Asked by the preflight."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import msgspec

from components.core.errors import TeacherError
from components.core.store import open_store
from components.teacher.http.completions import Completion
from components.teacher.http.endpoint import Endpoint
from components.teacher.http.failures import ADDRESS_HINT, Failure, unreachable
from components.teacher.http.requests import request_body
from components.teacher.options import LIMITS, TeacherOptions
from components.teacher.prompts import load_prompt, sections

PROBE_TOKENS = 64
REFUSALS = ("400", "404", "405", "415", "422", "500", "501")
"""How servers answer a field that they do not take; some fail over it instead of refusing it."""
WAITS_S = (0.5, 1.0, 2.0)
"""Before the request is sent again after a failure that can pass. Servers that fail over the list of models may close the connection
just as the question goes out on it; others are busy for a moment."""
NAMES = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}


async def preflight(options: TeacherOptions) -> None:
    """Check the endpoint with its list of models and one short request, made as the run will make its own.

    The request decides: some endpoints list models without looking at the key, some answer for models that they do not list. When it
    is refused, it is sent again with other options, until one is found that the endpoint takes. What is no error is printed.

    Args:
        options: The teacher's options.

    Raises:
        ParameterError: Options that contradict one another.
        TeacherError: What is wrong and what to change; never shows the key.
    """
    endpoint = Endpoint(options)
    try:
        listed = await endpoint.models()
        if isinstance(listed, Failure) and (
            listed.outcome in ("connection", "timeout") or (listed.fatal and listed.outcome in ("401", "402", "403"))
        ):
            raise unreachable(listed)
        answer = await _answer(endpoint, options)
        if isinstance(answer, Failure) and answer.outcome in REFUSALS and (changes := await _accepted_changes(endpoint, options)):
            once_more = await _probe(endpoint, options)
            # What failed may have passed meanwhile, so that the change was not what helped.
            if not isinstance(once_more, Completion) and not _out_of_room(once_more):
                raise TeacherError(f"the run's requests would all be refused: {answer.message}", changes)
            answer = once_more
    finally:
        await endpoint.close()
    offered = ", ".join(sorted(listed)[:20]) if isinstance(listed, list) and options.model not in listed else ""
    if isinstance(answer, Completion):
        if offered:
            print(f"{endpoint.name} answers for the model {options.model!r}, but lists only: {offered}", flush=True)
        _tell_of_usage(endpoint.name, options, answer)
        return
    if offered and answer.outcome in REFUSALS:
        raise TeacherError(
            f"{endpoint.name} does not offer the model {options.model!r} ({answer.message})", f"set teacher.model to one of: {offered}"
        )
    # Only a completion tells its tokens: what is none, twice, comes from something else than a model.
    if answer.outcome == "unusable" and answer.passing and (answer.usage is None or isinstance(listed, Failure)):
        raise TeacherError(answer.message, ADDRESS_HINT)
    if answer.outcome in REFUSALS and not answer.fatal and not answer.passing:
        raise TeacherError(answer.message, f"correct what the message names; the request was made for teacher.model = {options.model!r}")
    if answer.fatal or answer.outcome not in ("unusable", "429"):
        raise unreachable(answer)
    _tell_of_silence(endpoint.name, options, answer)


async def _probe(endpoint: Endpoint, options: TeacherOptions) -> Completion | Failure:
    """The answer to a short problem that is asked as the run asks its own."""
    question = sections(problem="Rosa has 3 apples and buys 4 more apples. How many apples does she have now?")
    parameters = {"temperature": 0.0, "top_p": 1.0, "max_tokens": min(PROBE_TOKENS, options.max_reply_tokens)}
    body = request_body(options, load_prompt("solve").messages(question), parameters, sample=0)
    answer = await endpoint.complete(msgspec.json.encode(body))
    return answer if isinstance(answer, Failure) else answer.completion


async def _answer(endpoint: Endpoint, options: TeacherOptions) -> Completion | Failure:
    """The answer to the probe; one that may pass is not believed at once."""
    answer = await _probe(endpoint, options)
    for wait_s in WAITS_S:
        if isinstance(answer, Completion) or not answer.passing or answer.outcome == "429":
            break
        unusable = answer.outcome == "unusable"
        await asyncio.sleep(wait_s)
        answer = await _probe(endpoint, options)
        if unusable:
            break
    return answer


def _out_of_room(answer: Completion | Failure) -> bool:
    """Whether the model wrote to the end of the reply's length without a word of text: it thinks first."""
    return isinstance(answer, Failure) and answer.outcome == "unusable" and not answer.passing


async def _accepted_changes(endpoint: Endpoint, options: TeacherOptions) -> str:
    """What to set so that the endpoint takes the request; empty when nothing helps."""
    for changes in _variants(options):
        answer = await _probe(endpoint, msgspec.structs.replace(options, **changes))
        if isinstance(answer, Completion) or _out_of_room(answer):
            return " and ".join(f"set teacher.{name}: {msgspec.json.encode(value).decode()}" for name, value in changes.items()).replace(
                '"', ""
            )
        if answer.outcome not in (*REFUSALS, "unusable"):
            return ""
    return ""


def _variants(options: TeacherOptions) -> Iterator[dict[str, Any]]:
    """Changes of the options that decide on a request's form: single ones first, then several at once."""
    seeds: list[dict[str, Any]] = [{}, {"send_seed": False}] if options.send_seed else [{}]
    names: list[dict[str, Any]] = [{}, {"reply_limit_name": NAMES[options.reply_limit_name]}]
    streams: list[dict[str, Any]]
    if options.stream:
        streams = [{}, *([{"stream_usage": False}] if options.stream_usage else []), {"stream": False}]
    else:
        streams = [{}, {"stream": True}, {"stream": True, "stream_usage": False}]
    yield from sorted((seed | name | stream for seed, name, stream in product(seeds, names, streams) if seed or name or stream), key=len)


def _tell_of_usage(name: str, options: TeacherOptions, answer: Completion) -> None:
    if answer.usage is not None:
        return
    limits = [f"teacher.{limit}" for limit in LIMITS if getattr(options, limit)]
    rest = f"; {' and '.join(limits)} then rest on estimates" if limits else ""
    asked = " (set teacher.stream_usage: true to ask for them)" if options.stream and not options.stream_usage else ""
    print(f"{name} does not tell the tokens of its replies{asked}: they are estimated from the length of the texts{rest}", flush=True)


def _tell_of_silence(name: str, options: TeacherOptions, answer: Failure) -> None:
    if not _out_of_room(answer):
        print(f"the teacher did not answer the preflight's question, the run will ask again: {answer.message}", flush=True)
    elif options.max_reply_tokens > PROBE_TOKENS:
        print(
            f"{name} thinks before it writes: the preflight's {PROBE_TOKENS} tokens were used up before any text; "
            f"teacher.max_reply_tokens = {options.max_reply_tokens} has to hold its thinking and its text",
            flush=True,
        )
    else:
        raise TeacherError(
            f"{name} uses up a reply's {options.max_reply_tokens} tokens before it writes any text", "raise teacher.max_reply_tokens"
        )


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """What a run needs.

    Attributes:
        stores: URIs of its stores.
        teachers: The teachers that it asks: name of the section to its options.
    """

    stores: Sequence[str]
    teachers: Mapping[str, TeacherOptions]


def check_services(services: Services) -> None:
    """Check every store and every teacher.

    Raises:
        StoreError: A store does not answer or refuses the keys.
        TeacherError: As :func:`preflight`.
    """
    for uri in services.stores:
        open_store(uri).exists("any")
    for options in services.teachers.values():
        asyncio.run(preflight(options))
