"""Is the teacher there, does it accept the key, does it offer the model; are the stores there? Asked by the preflight."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from components.core.errors import TeacherError
from components.core.options import parse_options
from components.core.store import open_store
from components.teacher.endpoint import ADDRESS_HINT, Endpoint, Failure, unreachable
from components.teacher.options import TeacherOptions
from components.teacher.prompts import load_prompt, sections

PROBE_TOKENS = 64


async def preflight(options: TeacherOptions) -> None:
    """Check the endpoint with its list of models and one short request.

    The request decides: some endpoints list models without looking at the key, some answer for models that they do not list.

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
        question = sections(problem="Rosa has 3 apples and buys 4 more apples. How many apples does she have now?")
        body = {"model": options.model, "messages": load_prompt("solve").messages(question), "temperature": 0.0, "top_p": 1.0}
        body[options.reply_limit_name] = min(PROBE_TOKENS, options.max_reply_tokens)
        if options.send_seed:
            body["seed"] = 0
        answer = await endpoint.complete(body)
    finally:
        await endpoint.close()
    if isinstance(answer, bytes):
        return
    if isinstance(listed, list) and listed and options.model not in listed:
        offered = ", ".join(sorted(listed)[:20])
        raise TeacherError(
            f"{endpoint.name} does not offer the model {options.model!r} ({answer.message})", f"set teacher.model to one of: {offered}"
        )
    if answer.outcome == "unusable" and isinstance(listed, Failure):
        raise TeacherError(answer.message, ADDRESS_HINT)
    # A thinking model may need more than the probe's length before its first word, and a busy one may answer later.
    if answer.fatal or answer.outcome not in ("unusable", "429"):
        raise unreachable(answer)


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """What a run needs.

    Attributes:
        stores: URIs of its stores.
        teachers: Its teacher sections.
    """

    stores: Sequence[str]
    teachers: Sequence[Mapping[str, Any]]


def check_services(services: Services) -> None:
    """Check every store and every teacher.

    Raises:
        StoreError: A store does not answer or refuses the keys.
        TeacherError: As :func:`preflight`.
    """
    for uri in services.stores:
        open_store(uri).exists("any")
    for section in services.teachers:
        asyncio.run(preflight(parse_options(TeacherOptions, section, "teacher")))
