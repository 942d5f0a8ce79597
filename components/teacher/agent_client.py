"""AutoGen's model client on top of ours: what agents say is stored, budgeted and counted like every other request."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Literal

from autogen_core import CancellationToken
from autogen_core.models import (
    AssistantMessage,
    ChatCompletionClient,
    CreateResult,
    LLMMessage,
    ModelFamily,
    ModelInfo,
    RequestUsage,
    SystemMessage,
    UserMessage,
)
from autogen_core.tools import Tool, ToolSchema
from pydantic import BaseModel

from components.core.errors import TutorLoopError
from components.teacher.client import Teacher
from components.teacher.sharing.budget import CHARACTERS_PER_TOKEN

CONTEXT_TOKENS = 128_000
"""AutoGen asks how much room is left; our conversations stay far below any model's limit."""


class TeacherChatClient(ChatCompletionClient):
    """A model client for the agents of one conversation.

    What other agents say becomes part of one user message, as a labelled section: several user messages in a row, which AutoGen
    sends by default, are refused by strict endpoints.

    Args:
        teacher: The shared client.
        temperature: Temperature of every reply.
        labels: Name of an agent to the label under which the others read what it says; without one it stands as it is.

    Attributes:
        error: The first error of this conversation. A team turns exceptions into text; this keeps the original.
    """

    component_type = "model"

    def __init__(self, teacher: Teacher, temperature: float, labels: Mapping[str, str] | None = None) -> None:
        self.error: TutorLoopError | None = None
        self._teacher = teacher
        self._temperature = temperature
        self._labels = dict(labels or {})
        self._usage = RequestUsage(prompt_tokens=0, completion_tokens=0)

    async def create(
        self,
        messages: Sequence[LLMMessage],
        *,
        tools: Sequence[Tool | ToolSchema] = (),
        tool_choice: Tool | Literal["auto", "required", "none"] = "auto",
        json_output: bool | type[BaseModel] | None = None,
        extra_create_args: Mapping[str, Any] | None = None,
        cancellation_token: CancellationToken | None = None,
    ) -> CreateResult:
        """As :meth:`ChatCompletionClient.create`; tools and JSON modes are not offered."""
        try:
            reply = await self._teacher.chat(self.merge(messages), temperature=self._temperature)
        except TutorLoopError as error:
            self.error = self.error or error
            raise
        usage = RequestUsage(prompt_tokens=reply.prompt_tokens, completion_tokens=reply.completion_tokens)
        self._usage = RequestUsage(
            prompt_tokens=self._usage.prompt_tokens + usage.prompt_tokens,
            completion_tokens=self._usage.completion_tokens + usage.completion_tokens,
        )
        reason: Literal["length", "stop"] = "length" if reply.finish_reason == "length" else "stop"
        return CreateResult(finish_reason=reason, content=reply.text, usage=usage, cached=reply.cached)

    async def create_stream(self, messages: Sequence[LLMMessage], **arguments: Any) -> AsyncGenerator[str | CreateResult, None]:
        """The whole reply as one piece: replies are stored whole."""
        result = await self.create(messages, **arguments)
        yield str(result.content)
        yield result

    def merge(self, messages: Sequence[LLMMessage]) -> list[dict[str, str]]:
        """Messages for the endpoint: neighbours of the same role joined."""
        merged: list[dict[str, str]] = []
        for message in messages:
            role, content = self._render(message)
            if merged and merged[-1]["role"] == role:
                merged[-1]["content"] += f"\n\n{content}"
            else:
                merged.append({"role": role, "content": content})
        return merged

    def _render(self, message: LLMMessage) -> tuple[str, str]:
        if isinstance(message, SystemMessage):
            return "system", message.content
        if isinstance(message, AssistantMessage):
            return "assistant", str(message.content)
        if isinstance(message, UserMessage):
            label = self._labels.get(message.source)
            return "user", f"{label}:\n{message.content}" if label else str(message.content)
        raise TypeError(f"agents without tools have no {type(message).__name__}")

    async def close(self) -> None:
        """Nothing to close: the teacher is shared."""

    def actual_usage(self) -> RequestUsage:
        """Tokens of this conversation."""
        return self._usage

    def total_usage(self) -> RequestUsage:
        """Tokens of this conversation."""
        return self._usage

    def count_tokens(self, messages: Sequence[LLMMessage], *, tools: Sequence[Tool | ToolSchema] = ()) -> int:
        """An estimate from the number of characters."""
        return sum(len(message["content"]) for message in self.merge(messages)) // CHARACTERS_PER_TOKEN

    def remaining_tokens(self, messages: Sequence[LLMMessage], *, tools: Sequence[Tool | ToolSchema] = ()) -> int:
        """Room left in the context, by the same estimate."""
        return CONTEXT_TOKENS - self.count_tokens(messages)

    @property
    def capabilities(self) -> ModelInfo:
        """Old name of :attr:`model_info`."""
        return self.model_info

    @property
    def model_info(self) -> ModelInfo:
        """Plain chat, nothing else."""
        return ModelInfo(
            vision=False,
            function_calling=False,
            json_output=False,
            structured_output=False,
            multiple_system_messages=False,
            family=ModelFamily.UNKNOWN,
        )
