"""Model Context Protocol server: agents read the ECGs of allowed folders and verify their own statements."""

# No postponed annotations here: the protocol's library reads them from the functions.
import json
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal

from mcp.server.mcpserver import Image, MCPServer
from mcp_types import CallToolResult, TextContent, ToolAnnotations
from pydantic import BaseModel, ConfigDict, Field

from gem_lightning import __version__
from gem_lightning.ecg.listing import list_records
from gem_lightning.errors import EcgReadError, GemError
from gem_lightning.reporting.html import encoded_image
from gem_lightning.reporting.interpretation import Interpretation
from gem_lightning.reporting.measured import facts, measured

_INSTRUCTIONS = """Tools on 12-lead ECG files. Research software, not a medical device.
Start with list_recordings. measure and findings give values and criteria with their sources; render gives the image.
Before you state anything about an ECG, pass your sentences to verify: each statement is compared with the signal and
comes back supported, contradicted or unverifiable, with the measured value. A recording whose `refused` is not null
must not be interpreted."""

_LISTED = 1000  # names in one answer: more would fill an agent's context; a subfolder narrows the list

# what measure returns of each detail; a recording has 60 KB of JSON in all, of which beats are 50
_LEFT_OUT = {"summary": ("leads", "beats"), "leads": ("beats",), "beats": ()}


class Reading(BaseModel):
    """What a file does not hold itself: rate and unit of a CSV, names of its columns."""

    model_config = ConfigDict(extra="forbid")  # a misspelt name must not be ignored

    fs: float | None = Field(None, description="sampling rate, Hz")
    units: Literal["mV", "uV", "nV", "V"] | None = Field(None, description="unit of the samples")
    gain: float | None = Field(None, description="counts per mV of uncalibrated samples")
    lead_names: list[str] | None = Field(None, description="names of the rows or columns, in order: I, II, V1, ...")
    leads: Literal["12", "any"] = Field("12", description="any: accept a file with fewer than 12 leads")
    format: str | None = Field(None, description="format where it cannot be recognised: wfdb, csv, dicom, scp, ...")
    index: int | None = Field(None, description="which recording of a file that holds several, from 0")


File = Annotated[str, Field(description="a recording as list_recordings names it")]
Stated = Annotated[Reading | None, Field(description="only for files that do not hold their rate, unit or lead names")]
Question = Annotated[str, Field(description="a question about the ECG; empty requests an interpretation")]
Detail = Annotated[
    Literal["summary", "leads", "beats"],
    Field(description="summary: of the whole record; leads: also of every lead; beats: also of every beat"),
]


class AllowedFolders:
    """The files that a server may read: those whose real place is inside one of its folders.

    Args:
        roots: The folders.

    Raises:
        GemError: One of them is not a folder.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        missing = [str(root) for root in roots if not root.is_dir()]
        if missing or not roots:
            raise GemError(f"expected folders of ECGs, got {', '.join(missing) or 'none'}; check --root")
        self.roots = [root.resolve() for root in roots]

    def find(self, name: str) -> Path:
        """Return the real path of a file, named relative to a folder or absolutely.

        What lies outside is refused in the same sentence as what does not exist: an answer discloses nothing about
        other files. The real path is what is read, and the readers open companions (a WFDB signal) in its folder only,
        never through a link out of it.

        Raises:
            EcgReadError: There is no such file in the folders.
        """
        for root in self.roots:
            for candidate in (root / name, root / f"{name}.hea") if name and "\0" not in name else ():
                try:
                    real = candidate.resolve(strict=True)
                except (OSError, RuntimeError):  # no such file, too long a name, or a loop of links
                    continue
                if real.is_file() and any(real.is_relative_to(allowed) for allowed in self.roots):
                    return real
        raise EcgReadError(
            f"expected a recording of the allowed folders, got {name[:200]!r}; list_recordings names what there is"
        )

    def listed(self, folder: str) -> list[str]:
        """Return the names of the recordings below a folder; an empty name stands for all folders.

        Raises:
            EcgReadError: It is not inside the allowed ones.
        """
        found = []
        for root in self.roots:
            try:
                place = (root / folder).resolve(strict=True) if "\0" not in folder else None
            except (OSError, RuntimeError):
                place = None
            if place is not None and place.is_dir() and any(place.is_relative_to(one) for one in self.roots):
                found += [path for _, path in list_records(place)]
        if not found and folder:
            raise EcgReadError(f"expected a folder with recordings inside the allowed ones, got {folder[:200]!r}")
        inside = (path for path in found if any(path.resolve().is_relative_to(root) for root in self.roots))
        return [self._name(path) for path in inside]

    def _name(self, path: Path) -> str:
        """A file as an agent names it: below the only folder, else with its whole path."""
        return path.relative_to(self.roots[0]).as_posix() if len(self.roots) == 1 else path.as_posix()


class EcgTools:
    """The tools of a server; one call at a time, as the numerical libraries below are not safe across threads.

    Args:
        folders: Where files may be read.
        model: Folder or hub id of a GEM, loaded by the first call that needs it.
    """

    def __init__(self, folders: AllowedFolders, model: str) -> None:
        self.folders, self.model = folders, model
        self.lock = threading.Lock()
        self._gem: Any = None

    def list_recordings(
        self, folder: Annotated[str, Field(description="a subfolder; empty for all")] = ""
    ) -> dict[str, Any]:
        """List the ECG files that can be read, by name; at most 1,000, with their total number."""
        names = self.folders.listed(folder)
        return {"recordings": names[:_LISTED], "total": len(names)}

    def measure(self, file: File, detail: Detail = "summary", reading: Stated = None) -> dict[str, Any]:
        """Measure an ECG: rate (bpm), intervals (ms), axes (degrees), ST and voltages (mV), rhythm, findings."""
        found = self._measured(file, reading)
        left_out = _LEFT_OUT[detail]
        return facts(file, found) | {k: v for k, v in found.features.to_dict().items() if k not in left_out}

    def findings(self, file: File, reading: Stated = None) -> dict[str, Any]:
        """Decide the criteria on an ECG: statements with evidence, criterion, source, urgency and SNOMED CT code."""
        return facts(file, self._measured(file, reading))

    def render(
        self,
        file: File,
        layout: Annotated[str, Field(description="rows x columns + rhythm strips: 3x4+1, 6x2, 12x1")] = "3x4+1",
        dpi: Annotated[float, Field(ge=50, le=300, description="dots per inch")] = 100,
        reading: Stated = None,
    ) -> Image:
        """Draw an ECG on standard paper (25 mm/s, 10 mm/mV), as a PNG image."""
        from gem_lightning.render import EcgRenderer

        return Image(data=EcgRenderer(layout=layout, dpi=dpi)(self._read(file, reading)).encode(".png"), format="png")

    def digitize(
        self,
        file: Annotated[str, Field(description="an image of an allowed folder: PNG, JPEG, TIFF, WebP or BMP")],
        layout: Annotated[str, Field(description="auto, or rows x columns + rhythm strips such as 3x4+1")] = "auto",
    ) -> CallToolResult:
        """Digitise a photo or scan of a paper ECG: measurements of the signal, and an image of what was read.

        The other tools read such files too. `refused` states why a page cannot be read.
        """
        from gem_lightning.digitizer import digitize

        page = digitize(str(self.folders.find(file)), layout=layout)
        about = {"file": file, "refused": page.refused, "layout": page.layout, "notes": list(page.notes)}
        if page.record is not None:
            about |= {"speed_mm_s": page.speed, "gain_mm_mv": page.gain} | facts(file, measured(page.record))
        drawn = Image(data=encoded_image(page.overlay(), ".png"), format="png").to_image_content()
        text = TextContent(type="text", text=json.dumps(about, ensure_ascii=False))
        return CallToolResult(content=[text, drawn], structured_content=about)

    def verify(
        self,
        file: File,
        text: Annotated[str, Field(description="English sentences about this ECG", max_length=100_000)],
        reading: Stated = None,
    ) -> dict[str, Any]:
        """Verify every statement of a text against the signal: supported, contradicted or unverifiable, and why.

        `unread` holds sentences without a statement that is understood, `unread_clinical` clinical content among them.
        """
        from gem_lightning.claims.verify import verify

        found = self._measured(file, reading)
        if found.quality.refused:
            return {**facts(file, found), "text": text, "verdicts": []}
        report = verify(text, found.features, findings=found.findings)
        clinical = [text[start:end] for start, end in report.unread_clinical]
        return {**facts(file, found), **report.to_dict(), "unread_clinical": clinical}

    def compose(
        self,
        file: File,
        style: Annotated[
            Literal["interpretation", "report", "brief", "teaching"], Field(description="kind of text")
        ] = "interpretation",
        reading: Stated = None,
    ) -> dict[str, Any]:
        """Write a text about an ECG from its measurements alone, without a model: every value in it is measured."""
        from gem_lightning.composition.compose import compose

        found = self._measured(file, reading)
        text = "" if found.quality.refused else compose(found.features, found.findings, style=style)
        return {**facts(file, found), "text": text}

    def interpret(
        self,
        file: File,
        question: Question = "",
        verify: Annotated[
            Literal["report", "revise", "guide", "rerank"],
            Field(description="report: the model's text with verdicts; revise, guide, rerank: corrected by the signal"),
        ] = "revise",
        reading: Stated = None,
    ) -> dict[str, Any]:
        """Let the language model GEM interpret an ECG; every statement comes with its verdict."""
        found = self._measured(file, reading)
        if found.quality.refused:
            return {**facts(file, found), "text": "", "claims": None}
        stated = {} if reading is None else reading.model_dump(exclude_none=True)
        complete = verify != "report" and not question.strip()  # a question is answered, not added to
        answer = self._loaded().interpret(
            self.folders.find(file), question.strip() or None, reading=stated, verify=verify, complete=complete
        )
        known = facts(file, found)
        return {**known, **{k: v for k, v in answer.to_dict().items() if k != "features"}, **known}

    def _read(self, file: str, reading: Reading | None) -> Any:
        from gem_lightning.ecg import read_ecg

        return read_ecg(self.folders.find(file), **({} if reading is None else reading.model_dump(exclude_none=True)))

    def _measured(self, file: str, reading: Reading | None) -> Interpretation:
        return measured(self._read(file, reading))

    def _loaded(self) -> Any:
        if self._gem is None:
            from gem_lightning.models import Gem
            from gem_lightning.models.compat.load import without_progress_bars

            with without_progress_bars():  # clients show standard error to their users
                self._gem = Gem.from_pretrained(self.model)
        return self._gem


def build_server(roots: Sequence[Path], model: str = "gem_small") -> MCPServer:
    """Build the server.

    Args:
        roots: Folders whose files may be read; nothing outside them is, and nothing is written.
        model: Folder or hub id that ``Gem.from_pretrained`` reads.

    Raises:
        GemError: A folder does not exist.
    """
    tools = EcgTools(AllowedFolders(roots), model)
    server = MCPServer("gem-lightning", version=__version__, instructions=_INSTRUCTIONS, log_level="WARNING")
    reads = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
    for tool in (
        tools.list_recordings,
        tools.measure,
        tools.findings,
        tools.render,
        tools.digitize,
        tools.verify,
        tools.compose,
        tools.interpret,
    ):
        server.add_tool(_answering(tool, tools.lock), annotations=reads)
    return server


def _answering(tool: Callable[..., Any], lock: threading.Lock) -> Callable[..., Any]:
    """A tool whose user errors are its answer: the library's one sentence, marked as an error."""

    @wraps(tool)
    def answer(*args: Any, **kwargs: Any) -> Any:
        try:
            with lock:
                return tool(*args, **kwargs)
        except GemError as error:
            return CallToolResult(content=[TextContent(type="text", text=str(error))], is_error=True)

    return answer


def serve(server: MCPServer, http: str | None = None) -> None:
    """Serve until the client or the user ends it.

    Args:
        server: Of :func:`build_server`.
        http: ``HOST:PORT`` for streamable HTTP at ``/mcp``; None takes standard input and output.

    Raises:
        GemError: Another form of address.
    """
    if http is None:
        server.run("stdio")
        return
    host, port = _free_address(http)
    sys.stderr.write(f"gem-lightning: serving http://{http}/mcp; Ctrl-C ends it\n")
    server.run("streamable-http", host=host, port=port)


def _free_address(http: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT`` that a server can listen on; uvicorn ends the process without a reason to catch.

    Raises:
        GemError: Another form, or the address is in use or not this machine's.
    """
    host, mark, port = http.rpartition(":")
    if not mark or not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise GemError(f"expected --http HOST:PORT such as 127.0.0.1:8765, got {http!r}")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, int(port)), family=family).close()
    except OSError as error:
        raise GemError(f"expected a free address for --http, got {http}: {error.strerror}; choose another") from error
    return host, int(port)
