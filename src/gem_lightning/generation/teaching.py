"""Runs a teacher LLM over many records: prompt, check, and retry an answer that is contradicted, empty or cut off."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gem_lightning.composition.questions import Turns
from gem_lightning.generation.gate import GateResult, Problem, problem_rows
from gem_lightning.generation.pipeline import Pipeline, Prepared, Row
from gem_lightning.generation.prompts import DIALOGUE_SCHEMA, render_prompt
from gem_lightning.generation.teachers import Teacher, TeacherAnswer
from gem_lightning.jobs import DiedError, NoRoomError, Workers, failure

logger = logging.getLogger(__name__)

Messages = list[dict[str, Any]]

NO_ANSWER = "no answer"  # category of the problem
CUT_OFF = Problem("cut off", "It breaks off before its end: write it shorter.")


class TeacherRunner:
    """Runs blocks of items through a teacher LLM: many records in flight, heavy parts in worker processes.

    Args:
        pipeline: Makes samples of records.
        teacher: Teacher LLM.
        workers: Processes that read, measure and check.
    """

    def __init__(self, pipeline: Pipeline, teacher: Teacher, workers: Workers) -> None:
        self.pipeline, self.teacher, self.workers = pipeline, teacher, workers
        self._slots = asyncio.Semaphore(teacher.at_once)

    async def __call__(self, items: Sequence[Mapping[str, Any]]) -> tuple[list[Row], list[Row]]:
        """Return rows and broken items of a block, in the order of its items."""
        done = await asyncio.gather(*(self._run_item(item) for item in items))
        rows = [row for found, _ in done for row in found]
        return rows, [row for _, broken in done for row in broken]

    async def _run_item(self, item: Mapping[str, Any]) -> tuple[list[Row], list[Row]]:
        try:
            prepared, tasks, rows = await self.workers(self.pipeline.start, item)
        except NoRoomError:
            raise
        except Exception as error:
            return [], [failure(dict(item), str(error) if isinstance(error, DiedError) else error)]
        answered = await asyncio.gather(*(self._run_task(prepared, *task) for task in tasks))
        return [*rows, *answered], []

    async def _run_task(self, prepared: Prepared, kind: str, name: str, messages: Messages) -> Row:
        """Prompt, check, and prompt again with the contradictions named."""
        attempts: list[Row] = []
        turns: Turns = []
        result = GateResult((Problem(NO_ANSWER, ""),))
        images = [str(Path(self.pipeline.out) / prepared.image)] if prepared.image else []
        schema = DIALOGUE_SCHEMA if kind == "dialogue" else None
        for attempt in range(self.pipeline.tries):
            async with self._slots:
                answer = await self.teacher.write(messages, schema, images, f"{name}#{attempt}")
            if answer.error is not None:
                turns, result = [], GateResult((Problem(NO_ANSWER, answer.error),))
            else:
                turns, result = await self._check(prepared, kind, name, answer)
            attempts.append({"text": answer.text, "problems": problem_rows(result.problems)})
            if result.accepted or answer.error is not None:
                break
            messages = _retry_messages(messages, answer.text, result.problems)
        return self.pipeline.row(prepared, kind, name, turns, result, attempts)

    async def _check(self, prepared: Prepared, kind: str, name: str, answer: TeacherAnswer) -> tuple[Turns, GateResult]:
        """Check an answer; one that cannot be parsed must not stop the others."""
        if not answer.text.strip():
            message = f"It was empty (it ended with {answer.ended!r}): write the text itself."
            return [], GateResult((CUT_OFF if answer.cut else Problem("empty answer", message),))
        try:
            turns, result = await self.workers(self.pipeline.check, prepared, kind, name, answer.text)
        except Exception as error:
            logger.warning("the answer for %s cannot be checked: %s: %s", name, type(error).__name__, error)
            return [], GateResult((Problem("cannot be checked", "It cannot be parsed: rephrase it."),))
        return turns, replace(result, problems=(CUT_OFF, *result.problems)) if answer.cut else result


def _retry_messages(messages: Messages, answer: str, problems: Sequence[Problem]) -> Messages:
    """Return the prompt with the problems of its last answer."""
    correction = render_prompt("retry", {"problems": [problem.message for problem in problems]})
    if not answer.strip():  # many endpoints refuse an empty turn
        return [messages[0], {"role": "user", "content": f"{messages[1]['content']}\n\n{correction}"}]
    return [*messages[:2], {"role": "assistant", "content": answer}, {"role": "user", "content": correction}]
