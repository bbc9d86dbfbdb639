"""Pipeline from one record to verified instruction samples: read, quality, features, image, text, gate, rows."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from gem_lightning.composition.chains.chain import Chain
from gem_lightning.composition.chains.make import chain_turns, make_chains, mixed
from gem_lightning.composition.chains.view import View
from gem_lightning.composition.phrases import sentence
from gem_lightning.composition.questions import (
    CHAIN_KIND,
    FREE_KINDS,
    KINDS,
    Turns,
    make_question,
    make_turns,
    opening,
    parse_turns,
)
from gem_lightning.composition.reported import report_statements
from gem_lightning.errors import DataError
from gem_lightning.features.schema import EcgFeatures, Finding
from gem_lightning.generation.gate import Gate, GateResult, Problem, agreeing, problem_rows, report_codes
from gem_lightning.generation.prompts import facts_for_prompt, render_prompt
from gem_lightning.jobs import write_atomically
from gem_lightning.samples.sample import InstructionSample, RecordRef, simulated_ecg
from gem_lightning.sources.base import SourceRecord

Row = dict[str, Any]
TeacherTask = tuple[str, str, list[dict[str, Any]]]  # kind, sample id, messages


@dataclass(frozen=True)
class Prepared:
    """A measured and rendered record, ready for a teacher LLM.

    Attributes:
        record: Its entry in the source.
        features, findings: Measurements and findings of the signal.
        earlier: Features of the same patient's earlier record, or None.
        image: Portable path of its image, or None.
        verdict: Signal quality: ``usable``, ``care`` or ``unusable``.
        reasons: Reasons where it is not ``usable``.
        chains: Reasoning chains of the record, those of its diagnoses and of absent ones in turn.
    """

    record: SourceRecord
    features: EcgFeatures
    findings: tuple[Finding, ...] = ()
    earlier: EcgFeatures | None = None
    image: str | None = None
    verdict: str = "usable"
    reasons: tuple[str, ...] = ()
    chains: tuple[Chain, ...] = ()


@dataclass(frozen=True)
class Pipeline:
    """Makes samples of records. Picklable: worker processes get a copy.

    Args:
        paths: Leading folders in record references → folders here.
        out: Folder of the run; images go below it.
        kinds: Kind of sample → weight (see :data:`gem_lightning.composition.questions.KINDS`).
        samples_per_record: Samples drawn for each record, of different kinds as far as the weights allow.
        style: Style of composed interpretations (see :func:`gem_lightning.grounding.compose`).
        seed: Seed of all draws; a record's draws depend on it and the record's id alone.
        gate: Quality gate of the texts.
        tries: Maximum number of attempts at one text.
        renderer: Renders the record (an ``EcgRenderer``), or None for samples without images.
        splits: Shares of ``val`` and ``test`` by patient, where the data set has no split of its own.
        quality: Worst accepted signal quality: ``usable``, ``care`` or ``unusable``.
        measurements: Write ``machine_measurements`` into each sample.
        prompt_file: Prompt for interpretations that replaces the package's own.
        contract: Signal contract of the reader.
        source: Name of the data set, for the samples' metadata.
        teacher: Name of the teacher, for the samples' metadata.
        attached: The teacher LLM receives the images, and its prompt refers to them.
        verbatim: Free texts are the records' reports, cleaned, in place of composed ones.

    Raises:
        DataError: An invalid setting, or a missing prompt file.
    """

    paths: Mapping[str, str] = field(default_factory=dict)
    out: str = "."
    kinds: Mapping[str, float] = field(default_factory=lambda: {"interpretation": 1.0})
    samples_per_record: int = 1
    style: str = "interpretation"
    seed: int = 0
    gate: Gate = field(default_factory=Gate)
    tries: int = 3
    renderer: Any = None
    splits: Mapping[str, float] = field(default_factory=lambda: {"val": 0.05, "test": 0.05})
    quality: str = "care"
    measurements: bool = True
    prompt_file: str | None = None
    contract: str = "clean"
    source: str = "records"
    teacher: str = "compose"
    attached: bool = False
    verbatim: bool = False

    def __post_init__(self) -> None:
        unknown = sorted(set(self.kinds) - set(KINDS))
        if unknown or not any(w > 0 for w in self.kinds.values()):
            raise DataError(f"expected weights above 0 for kinds among {', '.join(KINDS)}, got {dict(self.kinds)}")
        if self.quality not in ("usable", "care", "unusable"):
            raise DataError(f"expected quality usable, care or unusable, got {self.quality!r}")
        shares = dict(self.splits)
        if not set(shares) <= {"val", "test"} or any(s < 0 for s in shares.values()) or sum(shares.values()) > 1:
            raise DataError(f"expected splits val and test with shares of 0 to 1 together, got {shares}")
        for name in ("tries", "samples_per_record"):
            if getattr(self, name) < 1:
                raise DataError(f"expected {name} of 1 or more, got {getattr(self, name)}")
        if self.contract not in ("clean", "gem"):
            raise DataError(f"expected contract clean or gem, got {self.contract!r}")
        if self.attached and self.renderer is None:
            raise DataError("expected a renderer for a teacher that receives images, got none; give render=default")
        if self.prompt_file is not None and not Path(self.prompt_file).is_file():
            raise DataError(f"expected a Jinja file at {self.prompt_file}, got none; check prompt_file")

    # -- one record ------------------------------------------------------------------------------------------------

    def prepare(self, item: Mapping[str, Any]) -> Prepared:
        """Read, measure and render one item of a source."""
        from gem_lightning.ecg import quality
        from gem_lightning.features import findings, measure

        source = SourceRecord.from_item(item)
        record = self._ref(source).read(contract=self.contract)
        source = source.completed(record.meta)
        record = source.with_patient(record)
        signal, features = quality(record), measure(record)
        found = tuple(findings(features))
        prepared = Prepared(source, features, found, verdict=signal.verdict, reasons=tuple(signal.reasons))
        if self._refusal(prepared) is not None:
            return prepared
        image = None if self.renderer is None else self._draw(record, source.id)
        return replace(prepared, image=image, earlier=self._earlier(source), chains=self._chains(source, record))

    def _ref(self, source: SourceRecord) -> RecordRef:
        if source.ecg is None:
            raise DataError(f"record {source.id} names no ECG; samples need a signal")
        return RecordRef.parse(source.ecg, source.format).mapped(self.paths)

    def _earlier(self, source: SourceRecord) -> EcgFeatures | None:
        if source.earlier is None or not self.kinds.get("comparison"):
            return None
        from gem_lightning.features import measure

        ref = RecordRef.parse(source.earlier, source.format).mapped(self.paths)
        return measure(source.with_patient(ref.read(contract=self.contract)))

    def _chains(self, source: SourceRecord, record: Any) -> tuple[Chain, ...]:
        """Make the chains of a record: from the truth of a simulated one, else from its measurements."""
        if not self.kinds.get(CHAIN_KIND):
            return ()
        ref = self._ref(source)
        view = View.simulated(simulated_ecg(ref)) if ref.simulated else View.of(record)
        facts: dict[str, Any] = {"ecg": source.ecg, "ecg_format": source.format, "patient": source.patient or source.id}
        facts |= {"age": source.age, "sex": source.sex}
        known = {name: value for name, value in facts.items() if value is not None}
        seed = self._number("chains", source.id)
        return tuple(mixed(make_chains(view, source.id, self.source, source.id, seed, **known), seed))

    def _draw(self, record: Any, name: str) -> str:
        """Render the record into ``images/``; the same record and seed give the same bytes."""
        import cv2

        below = Path("images") / f"{safe_name(name)}.png"
        drawn = self.renderer(record, seed=self._number("picture", name))
        done, data = cv2.imencode(".png", np.ascontiguousarray(drawn.image[..., ::-1]))
        if not done:
            raise DataError(f"expected an image of {name} that can be encoded as PNG, got shape {drawn.image.shape}")
        path = Path(self.out) / below
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data.tobytes())
        return below.as_posix()

    def _refusal(self, prepared: Prepared) -> Problem | None:
        """Return the reason why no sample is made of this record, or None."""
        levels = ("usable", "care", "unusable")
        if levels.index(prepared.verdict) > levels.index(self.quality):
            return Problem("quality", "; ".join(prepared.reasons) or prepared.verdict)
        if prepared.features.reason is not None:
            return Problem("nothing to measure", prepared.features.reason)
        if prepared.record.earlier is None and {k for k, w in self.kinds.items() if w > 0} == {"comparison"}:
            return Problem("nothing to ask", "There is no earlier record of this patient to compare with.")
        return None

    def plan(self, prepared: Prepared) -> list[str]:
        """Draw the kinds of this record's samples by weight, without repeating one before the others are used."""
        weights = {k: w for k, w in self.kinds.items() if w > 0}
        if prepared.earlier is None:
            weights.pop("comparison", None)
        draw = np.random.default_rng(self._number("kinds", prepared.record.id))
        names, left = [], dict(weights)
        for _ in range(self.samples_per_record if weights else 0):
            left = left or dict(weights)
            total = sum(left.values())
            names.append(str(draw.choice(list(left), p=[w / total for w in left.values()])))
            del left[names[-1]]
        return names

    def _number(self, purpose: str, name: str) -> int:
        """Return a random integer that depends on seed, purpose and name alone."""
        digest = hashlib.blake2b(f"{self.seed}/{purpose}/{name}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") >> 1

    # -- rows ------------------------------------------------------------------------------------------------------

    def __call__(self, item: Mapping[str, Any]) -> list[Row]:
        """Return the rows of one record with the offline composer."""
        prepared = self.prepare(item)
        refusal = self._refusal(prepared)
        if refusal is not None:
            return [self._rejected(prepared, "record", [refusal], [])]
        kinds = enumerate(self.plan(prepared))
        return [self._offline(prepared, kind, number) for number, kind in kinds]

    def _offline(self, prepared: Prepared, kind: str, number: int) -> Row:
        """Return the row of a sample that needs no teacher LLM."""
        name = self._sample_id(prepared, kind, number)
        return self._chained(prepared, name, number) if kind == CHAIN_KIND else self._composed(prepared, kind, name)

    def _chained(self, prepared: Prepared, name: str, number: int) -> Row:
        """Return the row of a reasoning chain: its answers follow from decisions, so that there is no text to check."""
        if number >= len(prepared.chains):
            problem = Problem("nothing to ask", "The record decides no further diagnosis clearly.")
            return self._rejected(prepared, CHAIN_KIND, [problem], [], name)
        chain = prepared.chains[number]
        row = self.row(prepared, CHAIN_KIND, name, chain_turns(chain), GateResult(()), [{"text": "", "problems": []}])
        row["sample"]["chain"] = chain.to_row()
        return row

    def _composed(self, prepared: Prepared, kind: str, name: str) -> Row:
        """Compose a row from the measurements; findings that the gate rejects are omitted in the next attempt."""
        found = agreeing(prepared.findings, report_codes(prepared.record.report) if self.gate.report_rules else None)
        seed, attempts = self._number("words", name), []
        turns: Turns = []
        result = GateResult(())
        for _ in range(self.tries):
            turns = self._turns(prepared, kind, found, seed)
            result = self.check_turns(prepared, kind, turns)
            attempts.append({"text": "\n".join(a for _, a in turns), "problems": problem_rows(result.problems)})
            rejected = {problem.finding for problem in result.problems}
            kept = tuple(f for f in found if f.code not in rejected)
            if result.accepted or len(kept) == len(found):
                break
            found = kept
        return self.row(prepared, kind, name, turns, result, attempts)

    def _turns(self, prepared: Prepared, kind: str, found: Sequence[Finding], seed: int) -> Turns:
        """Compose the turns of a sample, or take the report itself."""
        report = report_statements(prepared.record.report) if self.gate.report_rules or self.verbatim else []
        if not self.verbatim or kind not in FREE_KINDS:
            return make_turns(kind, prepared.features, found, seed, self.style, prepared.earlier, report)
        return [(make_question("report", seed), " ".join(map(sentence, report)))] if report else []

    def check_turns(self, prepared: Prepared, kind: str, turns: Turns) -> GateResult:
        """Apply the gate to a sample; only free texts must quote several facts and state the diagnosis."""
        free = kind in FREE_KINDS
        if not turns:
            what = "It has no report." if free and self.verbatim else f"The record gives no sample of kind {kind}."
            return GateResult((Problem("no report" if free and self.verbatim else "nothing to ask", what),))
        gate = self.gate if free else replace(self.gate, min_claims=0, report_rules=False, all_numbers=False)
        if free and self.verbatim:  # a clinician's sentence is whole, however short
            gate = replace(gate, min_claims=0, report_rules=True)
        text = "\n".join(answer for _, answer in turns)
        return gate.check(text, prepared.features, prepared.findings, prepared.record.report if free else None)

    def _sample_id(self, prepared: Prepared, kind: str, number: int) -> str:
        repeated = number >= len([w for w in self.kinds.values() if w > 0])
        return f"{prepared.record.id}-{kind}" + (f"-{number}" if repeated else "")

    def row(
        self, prepared: Prepared, kind: str, name: str, turns: Turns, result: GateResult, attempts: list[Row]
    ) -> Row:
        """Return the job's row of one sample: the accepted sample, or every rejected attempt with its problems."""
        if not result.accepted:
            return self._rejected(prepared, kind, result.problems, attempts, name)
        sample = self.sample(prepared, kind, name, turns, result, len(attempts))
        common = {"id": name, "record": prepared.record.id, "kind": kind, "place": self.place(prepared.record)}
        return {"status": "accepted", **common, "sample": sample.to_dict()}

    def _rejected(
        self, prepared: Prepared, kind: str, problems: Sequence[Problem], attempts: list[Row], name: str | None = None
    ) -> Row:
        return {
            "status": "rejected",
            "id": name or prepared.record.id,
            "record": prepared.record.id,
            "kind": kind,
            "problems": problem_rows(problems),
            "attempts": attempts,
        }

    def sample(
        self, prepared: Prepared, kind: str, name: str, turns: Turns, result: GateResult, attempt: int
    ) -> InstructionSample:
        """Return the instruction sample in the original's form."""
        record = prepared.record
        questions = [opening(question, i) for i, (question, _) in enumerate(turns)]
        pairs = zip(questions, (answer for _, answer in turns))
        conversations = [{"from": who, "value": value} for q, a in pairs for who, value in (("human", q), ("gpt", a))]
        facts: dict[str, Any] = {"kind": kind, "split": self.split(record)}
        facts |= {"source": self.source, "teacher": self.teacher}
        facts |= {"patient": record.patient or record.id, "claims": result.claims, "attempt": attempt}
        facts |= {"contradictions": list(result.contradictions)} if result.contradictions else {}
        facts |= {name: value for name in ("age", "sex") if (value := getattr(record, name)) is not None}
        if prepared.image is not None:
            facts["image_seed"] = self._number("picture", record.id)
        return InstructionSample(
            id=name,
            conversations=conversations,
            ecg=record.ecg,
            ecg_format=record.format,
            image=prepared.image,
            machine_measurements=prepared.features.to_measurements() if self.measurements else None,
            report=record.report,
            metadata=facts,
        )

    def split(self, record: SourceRecord) -> str:
        """Return ``train``, ``val`` or ``test``: the data set's own, else by patient alone."""
        place = self.place(record)
        if place is None:
            return str(record.split)
        for name, share in self.splits.items():
            if place < share:
                return name
            place -= share
        return "train"

    def place(self, record: SourceRecord) -> float | None:
        """Return the patient's place in [0, 1) that decides the split; None where the data set has its own."""
        if record.split is not None:
            return None
        return (self._number("split", record.patient or record.id) % 10**9) / 10**9

    # -- teachers --------------------------------------------------------------------------------------------------

    def messages(self, prepared: Prepared, kind: str) -> list[dict[str, Any]]:
        """Return the prompt of a teacher LLM."""
        record = prepared.record
        facts = facts_for_prompt(
            prepared.features,
            agreeing(prepared.findings, report_codes(record.report) if self.gate.report_rules else None),
            record.report,
            record.age,
            record.sex,
            image=self.attached and prepared.image is not None,
            max_words=self.gate.max_words,
        )
        own = self.prompt_file if kind == "interpretation" else None
        return [
            {"role": "system", "content": render_prompt("system", facts)},
            {"role": "user", "content": render_prompt(kind, facts, own)},
        ]

    def start(self, item: Mapping[str, Any]) -> tuple[Prepared, list[TeacherTask], list[Row]]:
        """Prepare a record in a worker: the record, the tasks for the teacher LLM, and rows that need none."""
        prepared = self.prepare(item)
        refusal = self._refusal(prepared)
        if refusal is not None:
            return prepared, [], [self._rejected(prepared, "record", [refusal], [])]
        tasks: list[TeacherTask] = []
        rows: list[Row] = []
        for number, kind in enumerate(self.plan(prepared)):
            name = self._sample_id(prepared, kind, number)
            if kind in FREE_KINDS:
                tasks.append((kind, name, self.messages(prepared, kind)))
            else:
                rows.append(self._offline(prepared, kind, number))
        return prepared, tasks, rows

    def check(self, prepared: Prepared, kind: str, name: str, text: str) -> tuple[Turns, GateResult]:
        """Check an answer of the teacher LLM in a worker: its turns, and the gate's result."""
        try:
            turns = parse_turns(kind, text, self._number("words", name))
        except ValueError as error:
            return [], GateResult((Problem("not the requested form", str(error)),))
        return turns, self.check_turns(prepared, kind, turns)


def safe_name(text: str) -> str:
    """Return a file name for an id: special characters replaced, with a digest where anything changed."""
    plain_text = re.sub(r"[^\w.=-]+", "_", text)
    if plain_text == text and len(text) <= 120:
        return text
    return f"{plain_text[:100]}-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"
