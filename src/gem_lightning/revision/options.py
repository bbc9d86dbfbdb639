"""Options of verified generation: how a text is held to the measurements of its record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from gem_lightning.errors import GemError

MODES = ("report", "guide", "revise", "rerank")
ON_FAIL = ("restate", "drop", "flag")
ON_MISSING = ("measure", "model")


@dataclass(frozen=True)
class VerifyOptions:
    """How a text is held to the measurements.

    Attributes:
        verify: ``report`` (the model's text as it is, with verdicts), ``revise`` (each sentence is verified when it
            ends), ``guide`` (the same, and numbers of a known quantity are admitted only near the measurement) or
            ``rerank`` (the best of several texts).
        tries: Sentences (``revise``) or texts (``rerank``) that are sampled in place of a contradicted one; 0 samples
            no sentence, and as many texts as ``rerank`` takes by default.
        on_fail: What ``revise`` and ``guide`` do with a contradicted sentence: ``restate`` it from the measurement,
            ``drop`` or ``flag`` it.
        complete: Add measured abnormal and urgent findings that the text leaves out.
        on_missing: Who writes about a record of which much is unknown, such as a digitised page: ``measure`` (the text
            is composed from the measurements, an answer to a question revised by them) or ``model``.

    Raises:
        GemError: A value is none of these.
    """

    verify: str = "report"
    tries: int = 0
    on_fail: str = "restate"
    complete: bool = False
    on_missing: str = "measure"

    def __post_init__(self) -> None:
        if self.verify not in MODES:
            raise GemError(f"expected verify to be {', '.join(MODES)}, got {self.verify!r}; choose one of them")
        if self.on_fail not in ON_FAIL:
            raise GemError(f"expected on_fail to be {', '.join(ON_FAIL)}, got {self.on_fail!r}; choose one of them")
        if self.on_missing not in ON_MISSING:
            raise GemError(f"expected on_missing to be {', '.join(ON_MISSING)}, got {self.on_missing!r}")
        if isinstance(self.tries, bool) or not isinstance(self.tries, int) or self.tries < 0:
            raise GemError(f"expected tries to be an int of at least 0, got {self.tries!r}")

    @property
    def active(self) -> bool:
        """Whether a text may differ from what the model alone writes."""
        return self.verify != "report" or self.complete

    @property
    def by_sentence(self) -> VerifyOptions:
        """What is done to each sentence: under ``report`` with ``complete`` none is changed."""
        return replace(self, on_fail="flag", tries=0) if self.verify == "report" else self

    @property
    def asks_again(self) -> bool:
        """Whether the model takes part in verification; otherwise a text can be held as it comes."""
        return self.verify in ("guide", "rerank") or self.tries > 0

    @property
    def strict(self) -> VerifyOptions:
        """The same options, with contradicted sentences given up."""
        verify = "revise" if self.verify == "report" else self.verify
        return replace(self, verify=verify, on_fail="restate" if self.on_fail == "flag" else self.on_fail)

    @property
    def label(self) -> str:
        """These options as part of a model's name in reports; empty where the text is the model's."""
        if not self.active:
            return ""
        more = [f"tries={self.tries}"] * bool(self.tries) + [f"on_fail={self.on_fail}"] * (self.on_fail != "restate")
        return " ".join(["", f"verify={self.verify}", *more, *["complete"] * self.complete])

    @classmethod
    def split(cls, settings: Mapping[str, Any]) -> tuple[VerifyOptions, dict[str, Any]]:
        """Separate these options from other settings, such as those of ``generate``."""
        names = {field.name for field in fields(cls)}
        own = {name: value for name, value in settings.items() if name in names}
        return cls(**own), {name: value for name, value in settings.items() if name not in names}
