"""Typed requests and responses of the API, as OpenAPI describes them."""

# No postponed annotations here: FastAPI reads them from the classes.
from typing import Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model

from gem_lightning.features.schema import EcgFeatures, Finding


class Message(BaseModel):
    """The detail where OpenAI's clients look for it."""

    message: str


class Problem(BaseModel):
    """Why a request was not answered."""

    detail: str = Field(description="One sentence: expected and actual value, and a fix.")
    error: Message


class Quality(BaseModel):
    """Technical quality of the recording."""

    verdict: Literal["usable", "care", "unusable"]
    reasons: list[str]


class Record(BaseModel):
    """What is known about the recording; nothing that identifies the patient."""

    leads: list[str]
    fs: float = Field(description="Hz")
    seconds: float
    format: str | None
    age: float | None
    sex: str | None
    device: Any
    notes: list[str] = Field(description="What the reader assumed, repaired or left out.")


class Beat(BaseModel):
    """Measurements of one beat: of the whole record, and by lead."""

    model_config = ConfigDict(extra="allow")

    time_s: float
    beat_class: str = Field(alias="class")
    leads: dict[str, dict[str, float | None]]


#: The measurements: the attributes of ``EcgFeatures`` by their own types.
_KINDS: dict[str, Any] = {**get_type_hints(EcgFeatures), "beats": list[Beat]}
_ABOUT = "Measurements, units in the names; null where something cannot be measured."
_FIELDS: dict[str, Any] = {name: (kind, ...) for name, kind in _KINDS.items()}
Features: Any = create_model("Features", __doc__=_ABOUT, **_FIELDS)


class Measured(BaseModel):
    """Measurements and findings of a recording."""

    refused: str | None = Field(description="Why the recording is not interpreted; null where it is.")
    quality: Quality
    record: Record
    features: Features
    findings: list[Finding]


class Claim(BaseModel):
    """One checkable statement; ``span`` is its place in the text, characters."""

    kind: str
    value: float | None
    low: float | None
    high: float | None
    unit: str | None
    leads: list[str]
    beat: int | None
    finding: str | None
    negated: bool
    uncertain: bool
    span: tuple[int, int]


class Verdict(BaseModel):
    """One statement held against the measurements."""

    claim: Claim
    verdict: Literal["supported", "contradicted", "unverifiable"]
    measured: Any
    tolerance: float | None
    tolerance_source: str
    reason: str


class Conflict(BaseModel):
    """Two statements of the text that contradict each other."""

    first: tuple[int, int]
    second: tuple[int, int]
    reason: str


class Claims(BaseModel):
    """All statements of a text with their verdicts."""

    text: str
    precision: float | None
    hallucination_rate: float | None
    coverage: float | None
    score: float
    components: dict[str, float]
    abnormal_findings: list[str]
    mentioned_findings: list[str]
    leads_covered: list[str]
    by_kind: dict[str, dict[str, int]]
    verdicts: list[Verdict]
    unread: list[tuple[int, int]] = Field(description="Sentences without a statement that could be checked.")
    unread_clinical: list[tuple[int, int]]
    languages: list[str]
    conflicts: list[Conflict]


class EditVerdict(BaseModel):
    """A verdict on a sentence before it was edited."""

    claim: Claim
    verdict: str
    measured: Any
    reason: str


class Edit(BaseModel):
    """What verification did to one sentence."""

    draft: str
    text: str
    action: Literal["keep", "flag", "guide", "resample", "restate", "drop", "add"]
    source: Literal["model", "measurement"]
    reason: str
    tokens: int
    start: int
    verdicts: list[EditVerdict]


class Interpretation(Measured):
    """A text about a recording, every statement verified against the measurements."""

    partial: str | None = Field(
        description="Why the text rests on the measurements and not on a model: the ECG is known in part only."
    )
    text: str
    question: str
    provenance: str
    claims: Claims
    edits: list[Edit]
    kept_share: float
    tokens: int


class Digitized(BaseModel):
    """A paper ECG as a signal."""

    refused: str | None = Field(description="Why the page cannot be read; null where it was read.")
    layout: str
    speed: float = Field(description="mm/s")
    gain: float = Field(description="mm/mV")
    notes: list[str] = Field(description="What was assumed.")
    fs: float | None = Field(description="Hz")
    trust: dict[str, float] = Field(description="Of each lead, 0 to 1, over what the page shows of it.")
    signal: dict[str, list[float | None]] = Field(description="Of each lead, mV; null where the page shows nothing.")
    overlay: str = Field(description="The flat page with what was read drawn over it, as a data URL.")


class Difference(BaseModel):
    """One measurement of two recordings; ``difference`` is second less first."""

    name: str
    unit: str
    first: float | None
    second: float | None
    difference: float | None


class Comparison(BaseModel):
    """Two recordings compared."""

    first: Measured
    second: Measured
    differences: list[Difference]
    findings_gone: list[str]
    findings_new: list[str]


class Model(BaseModel):
    """A model that this server answers with."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "gem-lightning"


class Models(BaseModel):
    """The models of this server."""

    object: Literal["list"] = "list"
    data: list[Model]


class Health(BaseModel):
    """The server answers."""

    status: Literal["ok"] = "ok"
    version: str
    model: str
