"""A chat model behind an endpoint in chains of questions, with tools that measure the record for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gem_lightning.composition.chains.chain import Chain
from gem_lightning.composition.tools import RecordTools, specifications
from gem_lightning.evaluation.base import Query
from gem_lightning.evaluation.reasoning.dialogue import INSTRUCTION
from gem_lightning.llm.client import ChatClient, ChatError
from gem_lightning.llm.request import data_url

MOST_CALLS = 8  # for one question: a beat, its waves and a few leads; a model that asks for more goes in circles
USE_TOOLS = "You do not see the signal. Measure it with the tools, then answer."

Keep = Callable[[Query, list[str] | None, str | None], None]


def run_chains(
    client: ChatClient,
    pairs: Iterable[tuple[Query, Chain]],
    keep: Keep,
    tools: bool = False,
    draw: Callable[[Any], Any] | None = None,
    system: str | None = None,
) -> None:
    """Take a chat model through chains, several at once.

    The right answers to earlier questions stand in the conversation as the model's own; the options of earlier
    questions and the model's calls for them are left out.

    Args:
        client: Client of the endpoint.
        pairs: Queries with their records, and chains.
        keep: Receives each chain's answers, or the error that ended it.
        tools: Let the model call :class:`~gem_lightning.composition.tools.RecordTools`.
        draw: Draws the image of a record for the first question; None sends no image.
        system: System prompt in place of the usual one.

    Raises:
        ChatError: The endpoint cannot be used at all.
        BudgetError: The budget is exhausted; answers so far are kept.
    """

    async def session() -> None:
        queue = iter(pairs)

        async def work() -> None:
            for query, chain in queue:
                try:
                    keep(query, await _answers(client, query, chain, tools, draw, system), None)
                except ChatError as error:
                    if error.fatal:
                        raise
                    keep(query, None, str(error))

        workers = [asyncio.ensure_future(work()) for _ in range(client.concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            await client.aclose()

    with ThreadPoolExecutor(1) as pool:  # a notebook has a loop of its own
        pool.submit(asyncio.run, session()).result()


async def _answers(
    client: ChatClient, query: Query, chain: Chain, tools: bool, draw: Callable[[Any], Any] | None, system: str | None
) -> list[str]:
    instrument = RecordTools(query.record) if tools and query.record is not None else None
    start = system or (f"{INSTRUCTION} {USE_TOOLS}" if tools else INSTRUCTION)
    messages: list[dict[str, Any]] = [{"role": "system", "content": start}]
    answers = []
    for number, question in enumerate(chain.questions):
        content: Any = question.prompt
        if number == 0 and draw is not None:
            image = {"type": "image_url", "image_url": {"url": data_url(draw(query.record))}}
            content = [{"type": "text", "text": question.prompt}, image]
        messages.append({"role": "user", "content": content})
        answers.append(await _answer(client, messages, instrument))
        kept = question.text if isinstance(content, str) else [{"type": "text", "text": question.text}, content[1]]
        messages[-1] = {"role": "user", "content": kept}
        messages.append({"role": "assistant", "content": question.answer})
    return answers


async def _answer(client: ChatClient, messages: list[dict[str, Any]], instrument: RecordTools | None) -> str:
    """Return the model's answer to the last message, after running the calls that it makes."""
    if instrument is None:
        return (await client.complete(messages)).text
    talk = list(messages)
    for _ in range(MOST_CALLS):
        answer = await client.complete(talk, tools=tuple(specifications()))
        if not answer.tool_calls:
            return answer.text
        talk.append({"role": "assistant", "content": answer.text, "tool_calls": list(answer.tool_calls)})
        for call in answer.tool_calls:
            asked = call.get("function", {})
            result = instrument.run(str(asked.get("name")), asked.get("arguments") or "{}")
            talk.append({"role": "tool", "tool_call_id": call.get("id", ""), "content": json.dumps(result)})
    talk.append({"role": "user", "content": "Answer now, without another call."})
    return (await client.complete(talk)).text
