"""The agents that write problems; the only module that knows AutoGen's agents and teams."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.base import TaskResult
from autogen_agentchat.messages import TextMessage
from autogen_agentchat.teams import RoundRobinGroupChat

from components.core.errors import TeacherError
from components.teacher.agent_client import TeacherChatClient
from components.teacher.client import Teacher
from components.teacher.prompts import load_prompt, sections

ASK_ME_ANYTHING, SUGGESTER, EDITOR, CHECKER = "ask_me_anything", "suggester", "editor", "checker"
PROMPTS = {ASK_ME_ANYTHING: "ask_me_anything", SUGGESTER: "suggest", EDITOR: "edit", CHECKER: "solvable"}
"""Agent to the prompt that makes it."""

# AutoGen logs every failed turn with its traceback; the error itself reaches the caller.
logging.getLogger("autogen_core").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Rewrite:
    """One round of Suggester and Editor.

    Attributes:
        suggestions: What the Suggester said.
        problem: What the Editor said.
    """

    suggestions: str
    problem: str


async def ask_me_anything(teacher: Teacher, question: str, answer: str, temperature: float) -> str:
    """Let the Ask-Me-Anything agent turn one problem into many.

    Args:
        teacher: The client.
        question: The problem's text.
        answer: Its short answer.
        temperature: Temperature of the reply.

    Returns:
        The agent's reply.
    """
    return await _ask(teacher, ASK_ME_ANYTHING, sections(problem=question, answer=answer), temperature)


async def check_solvable(teacher: Teacher, question: str) -> str:
    """Let the third agent say whether a problem has exactly one answer; return its reply."""
    return await _ask(teacher, CHECKER, sections(problem=question), temperature=0.0)


async def rewrite_once(teacher: Teacher, question: str, objective: str, temperature: float) -> Rewrite:
    """One round of the Suggester and the Editor on a problem.

    Every round is a conversation of its own that starts from the problem as it now is: agents and teams keep state, and a request
    that holds nothing of earlier rounds is the same request whenever it is needed again.

    Args:
        teacher: The client.
        question: The problem's text.
        objective: What the rewriting is for, in a few words.
        temperature: Temperature of both agents.
    """
    client = TeacherChatClient(teacher, temperature, labels={SUGGESTER: "Suggestions"})
    team = RoundRobinGroupChat([_agent(SUGGESTER, client), _agent(EDITOR, client)], max_turns=2)
    try:
        result = await team.run(task=sections(objective=objective, problem=question))
    except RuntimeError as error:
        raise client.error or error from None
    return Rewrite(_said(result, SUGGESTER), _said(result, EDITOR))


async def _ask(teacher: Teacher, name: str, task: str, temperature: float) -> str:
    agent = _agent(name, TeacherChatClient(teacher, temperature))
    return _said(await agent.run(task=task), name)


def _agent(name: str, client: TeacherChatClient) -> AssistantAgent:
    return AssistantAgent(name, model_client=client, system_message=load_prompt(PROMPTS[name]).text, description=name)


def _said(result: TaskResult, name: str) -> str:
    for message in reversed(result.messages):
        if isinstance(message, TextMessage) and message.source == name:
            return message.content
    raise TeacherError(f"the agent {name} said nothing")
