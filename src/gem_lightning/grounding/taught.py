"""Many records through a teacher at once: asked, checked, and asked again with the contradictions named."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

from gem_lightning.grounding.gate import Judgement, Problem
from gem_lightning.grounding.kinds import Turns
from gem_lightning.grounding.pipeline import Pipeline, Prepared, Row, told
from gem_lightning.grounding.prompting import DIALOGUE_SCHEMA, render_prompt
from gem_lightning.grounding.teacher import Teacher
from gem_lightning.jobs import failure

NO_ANSWER = "no answer"  # category of the problem
CUT_OFF = Problem("cut off", "It breaks off before its end: write it shorter.")


class Taught:
    """Blocks of items through a teacher: many records in flight, heavy parts in worker processes.

    Args:
        pipeline: What is made of each record.
        teacher: Who writes.
        pool: Where reading, measuring and checking run; None uses threads.
    """

    def __init__(self, pipeline: Pipeline, teacher: Teacher, pool: Executor | None = None) -> None:
        self.pipeline, self.teacher, self.pool = pipeline, teacher, pool
        self._turn = asyncio.Semaphore(teacher.at_once)

    async def __call__(self, items: Sequence[Mapping[str, Any]]) -> tuple[list[Row], list[Row]]:
        """Rows and broken items of a block, in the order of its items."""
        done = await asyncio.gather(*(self._one(item) for item in items))
        rows = [row for found, _ in done for row in found]
        return rows, [row for _, broken in done for row in broken]

    async def _one(self, item: Mapping[str, Any]) -> tuple[list[Row], list[Row]]:
        try:
            prepared, asked, rows = await self._run(self.pipeline.start, item)
        except Exception as error:
            return [], [failure(dict(item), error)]
        written = await asyncio.gather(*(self._teach(prepared, *task) for task in asked))
        return [*rows, *written], []

    async def _teach(self, prepared: Prepared, kind: str, name: str, messages: list[dict[str, Any]]) -> Row:
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
            turns, judged = await self._run(self.pipeline.check, prepared, kind, name, answer.text)
            if answer.cut:
                judged = replace(judged, problems=(CUT_OFF, *judged.problems))
            attempts.append({"text": answer.text, "problems": told(judged.problems)})
            if judged.accepted:
                break
            mend = render_prompt("retry", {"problems": [p.words for p in judged.problems]})
            said = {"role": "assistant", "content": answer.text}
            messages = [*messages[:2], said, {"role": "user", "content": mend}]
        return self.pipeline.row(prepared, kind, name, turns, judged, attempts)

    async def _run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.pool, function, *arguments)
