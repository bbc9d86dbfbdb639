"""Many records through a teacher at once: asked, checked, and asked again with the contradictions named."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gem_lightning.composition.questions import Turns
from gem_lightning.generation.gate import Judgement, Problem
from gem_lightning.generation.pipeline import Pipeline, Prepared, Row, told
from gem_lightning.generation.prompts import DIALOGUE_SCHEMA, render_prompt
from gem_lightning.generation.teachers import Teacher, Written
from gem_lightning.jobs import DiedError, NoRoomError, Workers, failure

logger = logging.getLogger(__name__)

Messages = list[dict[str, Any]]

NO_ANSWER = "no answer"  # category of the problem
CUT_OFF = Problem("cut off", "It breaks off before its end: write it shorter.")


class Taught:
    """Blocks of items through a teacher: many records in flight, heavy parts in worker processes.

    Args:
        pipeline: What is made of each record.
        teacher: Who writes.
        workers: Where reading, measuring and checking run.
    """

    def __init__(self, pipeline: Pipeline, teacher: Teacher, workers: Workers) -> None:
        self.pipeline, self.teacher, self.workers = pipeline, teacher, workers
        self._turn = asyncio.Semaphore(teacher.at_once)

    async def __call__(self, items: Sequence[Mapping[str, Any]]) -> tuple[list[Row], list[Row]]:
        """Rows and broken items of a block, in the order of its items."""
        done = await asyncio.gather(*(self._one(item) for item in items))
        rows = [row for found, _ in done for row in found]
        return rows, [row for _, broken in done for row in broken]

    async def _one(self, item: Mapping[str, Any]) -> tuple[list[Row], list[Row]]:
        try:
            prepared, asked, rows = await self.workers(self.pipeline.start, item)
        except NoRoomError:
            raise
        except Exception as error:
            return [], [failure(dict(item), str(error) if isinstance(error, DiedError) else error)]
        written = await asyncio.gather(*(self._teach(prepared, *task) for task in asked))
        return [*rows, *written], []

    async def _teach(self, prepared: Prepared, kind: str, name: str, messages: Messages) -> Row:
        """Ask, check, and ask again with the contradictions named."""
        attempts: list[Row] = []
        turns: Turns = []
        judged = Judgement((Problem(NO_ANSWER, ""),))
        images = [str(Path(self.pipeline.out) / prepared.image)] if prepared.image else []
        for attempt in range(self.pipeline.tries):
            schema = DIALOGUE_SCHEMA if kind == "dialogue" else None
            async with self._turn:
                answer = await self.teacher.write(messages, schema, images, f"{name}#{attempt}")
            if answer.error is not None:
                judged = Judgement((Problem(NO_ANSWER, answer.error),))
                attempts.append({"text": "", "problems": told(judged.problems)})
                break
            turns, judged = await self._check(prepared, kind, name, answer)
            attempts.append({"text": answer.text, "problems": told(judged.problems)})
            if judged.accepted:
                break
            messages = _asked_again(messages, answer.text, judged.problems)
        return self.pipeline.row(prepared, kind, name, turns, judged, attempts)

    async def _check(self, prepared: Prepared, kind: str, name: str, answer: Written) -> tuple[Turns, Judgement]:
        """The verdict on an answer, whatever it holds: one that cannot be read must not stop the others."""
        if not answer.text.strip():
            words = f"It was empty (it ended with {answer.ended!r}): write the text itself."
            return [], Judgement((CUT_OFF,) if answer.cut else (Problem("empty answer", words),))
        try:
            turns, judged = await self.workers(self.pipeline.check, prepared, kind, name, answer.text)
        except Exception as error:
            logger.warning("the answer for %s cannot be checked: %s: %s", name, type(error).__name__, error)
            return [], Judgement((Problem("cannot be checked", "It cannot be read: write it in other words."),))
        return turns, replace(judged, problems=(CUT_OFF, *judged.problems)) if answer.cut else judged


def _asked_again(messages: Messages, said: str, problems: Sequence[Problem]) -> Messages:
    """The question with what was wrong with its last answer."""
    mend = render_prompt("retry", {"problems": [problem.words for problem in problems]})
    if not said.strip():  # many endpoints refuse a turn without words
        return [messages[0], {"role": "user", "content": f"{messages[1]['content']}\n\n{mend}"}]
    return [*messages[:2], {"role": "assistant", "content": said}, {"role": "user", "content": mend}]
