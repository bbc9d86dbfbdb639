"""One interpretation of one record: the single source of every page, JSON file and terminal print of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gem_lightning.claims.report import CONTRADICTED, ClaimReport
from gem_lightning.claims.verify import verify
from gem_lightning.composition.compose import Summary, statements_of, summarise
from gem_lightning.composition.facts import Facts
from gem_lightning.ecg.quality import Quality, partly_known
from gem_lightning.ecg.record import EcgRecord
from gem_lightning.features import EcgFeatures, Finding, findings, measure
from gem_lightning.features.reliability import reliability
from gem_lightning.features.schema import plain
from gem_lightning.jobs import write_atomically
from gem_lightning.revision.edit import ADD, MEASUREMENT, Edit, Revision, kept_share, placed
from gem_lightning.revision.options import VerifyOptions
from gem_lightning.revision.revise import revise

if TYPE_CHECKING:
    import numpy as np

    from gem_lightning.reporting.html import Table

#: What an interpretation computes from the record alone, whatever its text.
_OF_RECORD = ("partial", "summary", "page")


@dataclass(frozen=True)
class Interpretation:
    """A text about a record, verified against the record's own measurements.

    An unusable recording is refused: whatever a model writes about it is discarded, and no finding is reported.

    Attributes:
        text: The answer; empty before it is written, and for a refused recording.
        claims: Every claim in the answer with its verdict.
        features: Measurements of ``record``.
        record: The record under the ``clean`` contract.
        findings: Criteria that the measurements meet.
        quality: Technical quality of the recording.
        question: Question to the model; empty for the usual interpretation.
        provenance: Which model and file, for the footer of pages.
        seen: uint8 (H, W, 3): the image that the model saw; None where it saw the signal alone.
        edits: What verification did to each sentence; empty where the text is the model's as it wrote it.
        tokens: Tokens that the model wrote for the text, discarded ones included; 0 where not counted.
    """

    text: str
    claims: ClaimReport
    features: EcgFeatures
    record: EcgRecord
    findings: list[Finding]
    quality: Quality
    question: str = ""
    provenance: str = ""
    seen: np.ndarray | None = field(default=None, repr=False, compare=False)
    edits: tuple[Edit, ...] = ()
    tokens: int = 0

    @classmethod
    def of(
        cls,
        text: str | Revision,
        record: EcgRecord,
        question: str = "",
        provenance: str = "",
        seen: np.ndarray | None = None,
        features: EcgFeatures | None = None,
    ) -> Interpretation:
        """Measure the record, verify the text against it and collect both.

        Args:
            text: What a model wrote, or what became of it under verification.
            record: The record, ``clean`` contract.
            question: Question to the model.
            provenance: Which model and file.
            seen: uint8 (H, W, 3) image that the model saw.
            features: Measurements of ``record`` made before; None measures it.
        """
        measured = measure(record) if features is None else features
        judged = reliability(record)
        found = [] if judged.refused else findings(measured)
        done = cls("", verify([], measured, findings=found), measured, record, found, judged, question)
        return replace(done, provenance=provenance, seen=seen).with_text(text)

    def with_text(self, text: str | Revision) -> Interpretation:
        """Return the interpretation with another text, verified; a refused recording has none."""
        if self.refused:
            return self
        written = Revision(text) if isinstance(text, str) else text
        claims = verify(written.text, self.features, findings=self.findings)
        return self.changed(text=written.text, claims=claims, edits=written.edits, tokens=written.tokens)

    def changed(self, **fields: Any) -> Interpretation:
        """Return a copy with other fields about the same record; what has been computed of the record is kept."""
        found = replace(self, **fields)
        found.__dict__.update({name: self.__dict__[name] for name in _OF_RECORD if name in self.__dict__})
        return found

    def without_model(self, options: VerifyOptions | None = None) -> Interpretation | None:
        """Return the interpretation of a record that no model writes about; None where one does.

        A refused record has no text. That of a :attr:`partial` one is composed, unless a question was asked.

        Args:
            options: ``on_missing="model"`` lets the model write about partial records.
        """
        if self.refused:
            return self
        return self.composed() if self._is_held(options) and not self.question else None

    def written(self, text: str | Revision, options: VerifyOptions | None = None) -> Interpretation:
        """Return the interpretation with what a model wrote; contradicted sentences about partial records are revised.

        Args:
            text: The model's text, or what became of it under verification.
            options: As for :meth:`without_model`.
        """
        found = self.with_text(text)
        if self._is_held(options) and (isinstance(text, str) or found.claims.count(CONTRADICTED)):
            return self.with_text(revise(found.text, self.features, self.findings))
        return found

    def revised(self, text: str, options: VerifyOptions) -> Interpretation:
        """Return the interpretation with a whole text that a model wrote, held to the measurements as options say."""
        by = options.by_sentence
        return self.with_text(revise(text, self.features, self.findings, by.on_fail, by.complete, self.question))

    def held(self, options: VerifyOptions) -> VerifyOptions:
        """How a model's text about this record is held to the measurements: strictly where the record is partial."""
        return options.strict if self._is_held(options) else options

    def _is_held(self, options: VerifyOptions | None) -> bool:
        return self.partial is not None and (options is None or options.on_missing == "measure")

    def composed(self) -> Interpretation:
        """Return the interpretation with a text of the measurements alone; no model has a part in it."""
        stated = statements_of(Facts.of(self.features, self.findings), 0, "brief")
        text = " ".join(statement.text for statement in stated if statement.text)
        return self.with_text(Revision(text, placed([Edit("", text, ADD, MEASUREMENT, reason="composed")], text)))

    @property
    def is_composed(self) -> bool:
        """Whether the text is made of measurements alone."""
        return bool(self.edits) and not any(edit.draft.strip() for edit in self.edits)

    @property
    def shown_edits(self) -> tuple[Edit, ...]:
        """The edits that a text is marked with: none of a composed one, whose heading says who wrote the whole."""
        return () if self.is_composed else self.edits

    @property
    def note(self) -> str:
        """What readers of the text have to know about its making; empty where there is nothing to say."""
        is_composed = self.is_composed or not (self.text or self.question)  # what is still to come is composed
        if self.partial is None or not (is_composed or self.edits):
            return ""
        by = "no model has written about it" if is_composed else "the measurements decide"
        return f"This ECG is known in part: {self.partial}. The text rests on what is known; {by}."

    @cached_property
    def partial(self) -> str | None:
        """Why no model is relied on to read the record: it is known in part only; None where it is whole."""
        return None if self.refused else partly_known(self.record)

    @property
    def refused(self) -> str | None:
        """Why the recording is not interpreted; None where it is."""
        return self.quality.refused

    @cached_property
    def summary(self) -> Summary:
        """Urgency and conclusions, from the measurements alone; the model's text has no part in them."""
        return summarise(self.features, self.findings, readable=not self.refused)

    @property
    def kept_share(self) -> float:
        """The share of the model's own sentences that stand unchanged; 1 where none was changed."""
        return kept_share(self.edits)

    @cached_property
    def image(self) -> np.ndarray:
        """uint8 (H, W, 3): the image that the model saw, or else the record on the page drawn for readers."""
        return self.page if self.seen is None else self.seen

    @cached_property
    def page(self) -> np.ndarray:
        """uint8 (H, W, 3): the record drawn at a size that people can read."""
        from gem_lightning.reporting.html import PAGE_PX

        if self.seen is not None and min(self.seen.shape[:2]) >= PAGE_PX[0]:
            return self.seen
        from gem_lightning.render import EcgRenderer

        return EcgRenderer(size=PAGE_PX)(self.record).image

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "refused": self.refused,
            "partial": self.partial,
            "text": self.text,
            "question": self.question,
            "provenance": self.provenance,
            "quality": {"verdict": self.quality.verdict, "reasons": list(self.quality.reasons)},
            "summary": self.summary._asdict(),
            "findings": plain(self.findings),
            "claims": self.claims.to_dict(),
            "features": self.features.to_dict(),
            "edits": [edit.to_dict() for edit in self.edits],
            "kept_share": self.kept_share,
            "tokens": self.tokens,
        }

    def to_json(self, indent: int | None = None) -> str:
        """As :meth:`to_dict`, as JSON text."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False, allow_nan=False)

    def to_fhir(self, record_id: str = "") -> dict[str, Any]:
        """A FHIR R4 bundle: a DiagnosticReport with an Observation for each measurement and finding.

        Args:
            record_id: Name of the record, from which the ids follow.
        """
        from gem_lightning.reporting.fhir import interpretation_fhir

        return interpretation_fhir(self, record_id)

    def to_html(
        self,
        title: str = "ECG interpretation",
        extra_tables: tuple[Table, ...] = (),
        back_url: str = "",
        file_name: str = "",
    ) -> str:
        """One self-contained page.

        Args:
            title: Heading of the page.
            extra_tables: Shown at the end, for example the model's results on held-out ECGs.
            back_url: Address of the page that takes the next record; empty where there is none.
            file_name: Of the recording, for the report's header.
        """
        from gem_lightning.reporting.result import interpretation_html

        return interpretation_html(self, title, extra_tables, back_url, file_name)

    def to_pdf(self, path: str | Path | None = None, file_name: str = "") -> bytes:
        """The report as a PDF: the ECG in true millimetres, then text and tables.

        Args:
            path: File to write as well; None writes none.
            file_name: Of the recording, for the report's header.
        """
        from gem_lightning.reporting.pdf import interpretation_pdf

        data = interpretation_pdf(self, file_name)
        if path is not None:
            write_atomically(Path(path), data)
        return data

    def to_terminal(self, color: bool | None = None) -> str:
        """The verified text for a terminal; without colours, as in a file, verdicts are signs."""
        if self.refused:
            return f"{self.refused} {self.summary.statement}"
        text = self.claims.to_terminal(color, self.shown_edits)
        return f"{self.note}\n{text}" if self.note else text

    def __repr__(self) -> str:
        return f"Interpretation({self.refused or self.text!r}, {len(self.claims.verdicts)} claims checked)"
