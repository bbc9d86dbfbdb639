"""Revise a text sentence by sentence, while a model writes it or afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from gem_lightning.errors import GemError
from gem_lightning.revision.edit import Edit, Revision, placed
from gem_lightning.revision.options import VerifyOptions
from gem_lightning.revision.reviser import Reviser
from gem_lightning.revision.segments import finished, segments

if TYPE_CHECKING:
    from gem_lightning.features.schema import EcgFeatures, Finding


class Writer(Protocol):
    """Writes sentence after sentence and takes note of what stands in their place."""

    def next(self) -> tuple[str, int] | None:
        """Write the next sentence; return it with its tokens, None at the end of the text."""
        ...

    def replace(self, edit: Edit) -> None:
        """Go on from what stands in place of the last sentence."""
        ...

    def retry(self, number: int) -> tuple[str, int]:
        """Sample another sentence in place of the last."""
        ...


class TextWriter:
    """A text that exists: its sentences in order. It cannot be sampled again and does not follow what is replaced.

    Args:
        text: The text.
    """

    def __init__(self, text: str) -> None:
        self._pieces = iter(segments(text))

    def next(self) -> tuple[str, int] | None:
        """Return the next sentence."""
        piece = next(self._pieces, None)
        return None if piece is None else (piece, 0)

    def replace(self, edit: Edit) -> None:
        """Do nothing: the text is finished."""

    def retry(self, number: int) -> tuple[str, int]:
        """Return nothing: a finished text has no other sentence."""
        return "", 0


class StreamWriter(TextWriter):
    """A text that comes piece by piece, such as from a model that writes for many at once: its sentences as they end.

    Args:
        pieces: Consecutive parts of the text, of any length.
    """

    def __init__(self, pieces: Iterable[str]) -> None:
        self._parts, self._rest, self._ended = iter(pieces), "", False

    def next(self) -> tuple[str, int] | None:
        """Wait for the end of the next sentence and return it."""
        while (cut := finished(self._rest, self._ended)) is None:
            if self._ended:
                return None
            part = next(self._parts, None)
            self._ended = part is None
            self._rest += part or ""
        piece, self._rest = cut
        return piece, 0


def revise_sentences(writer: Writer, reviser: Reviser) -> Iterator[Edit]:
    """Yield each sentence's edit as soon as it is decided; then what is added at the end.

    Args:
        writer: Writes the sentences.
        reviser: Decides on them; afterwards its ``text`` and ``edits`` are the whole.
    """
    while (written := writer.next()) is not None:
        edit = reviser(*written, writer.retry)
        writer.replace(edit)
        yield edit
    yield from reviser.finish()


def collect(reviser: Reviser, tokens: int = 0) -> Revision:
    """Build the revision from what a reviser has accepted."""
    text = reviser.text.strip()
    return Revision(text, placed(reviser.edits, text), tokens or sum(edit.tokens for edit in reviser.edits))


def revise(
    text: str,
    features: EcgFeatures,
    found: Sequence[Finding] | None = None,
    on_fail: str = "restate",
    complete: bool = False,
    question: str = "",
) -> Revision:
    """Revise a text that any model has written, such as one behind an endpoint.

    Args:
        text: The text.
        features: Measurements of its record.
        found: Findings of the record; None decides them.
        on_fail: What becomes of a contradicted sentence: ``restate``, ``drop`` or ``flag``.
        complete: Add measured abnormal and urgent findings that the text leaves out.
        question: What the text answers: of a finding or measurement that it names and the text says nothing about, the
            measured statement is added.

    Returns:
        The revised text with one edit per sentence. Nothing in it is contradicted by ``verify`` (unless ``flag``), and
        a sentence whose source is the model is the model's, unchanged.

    Raises:
        GemError: ``on_fail`` is none of these, or the text is no str.
    """
    if not isinstance(text, str):
        raise GemError(f"expected a str, got {type(text).__name__}; decode bytes first")
    if found is None:
        from gem_lightning.features import findings

        found = findings(features)
    reviser = Reviser(features, found, VerifyOptions("revise", 0, on_fail, complete), question)
    for _ in revise_sentences(TextWriter(text), reviser):
        pass
    return collect(reviser)
