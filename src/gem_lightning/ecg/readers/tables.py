"""Text tables: CSV and TSV in the dialects of recorders and spreadsheets, and the first sheet of a workbook."""

from __future__ import annotations

import io
import re
import zipfile
from dataclasses import dataclass, field

import numpy as np

from gem_lightning.ecg.leads import lead_name
from gem_lightning.ecg.readers.base import Options, RawEcg, Source, check_rate, is_voltage, sex_letter
from gem_lightning.errors import EcgReadError, MissingExtraError

_HEAD_LINES = 200  # recorders write some twenty lines before the samples
_DELIMITERS = ("\t", ";", ",", " ")
_QUOTES = {ord("'"): None, ord('"'): None}
_TIME_TITLE = re.compile(
    r"(elapsed |relative )?(time|zeit|temps|tiempo|seconds?|sec|ms|t|index|samples?|sample number|n)\b", re.I
)
_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:[.,]\d+)?)")
_DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+(e[-+]?\d+)?", re.I)
_BRACKET = re.compile(r"^(.*?)\s*[(\[]\s*([^)\]]+?)\s*[)\]]\s*$")
#: Rate in the lines before the samples: pattern -> what its number means.
_RATES = (
    (re.compile(r"interval\s*[=:]?\s*([\d.,]+)\s*(ms|s)\b", re.I), "period"),
    (re.compile(r"([\d.,]+)\s*(msec|ms|sec|s)\s*/\s*sample", re.I), "period"),
    (re.compile(r"sampl\w*[ _]?(?:rate|freq\w*)?\W+([\d.,]+)\s*(?:hertz|hz)", re.I), "rate"),
    (re.compile(r"(?:sample|sampling)[ _]?(?:rate|frequency)\W+([\d.,]+)", re.I), "rate"),
    (re.compile(r"([\d.,]+)\s*samples?\s*(?:/|per)\s*s", re.I), "rate"),
)


@dataclass
class Table:
    """Rows of numbers with what the lines before them state.

    Attributes:
        values: (samples, columns), NaN where a cell is empty.
        titles: One per column, empty where there is none.
        units: One per column, empty where there is none.
        fs: Hz, None where not stated.
        head: The lines before the samples, for facts about the patient.
    """

    values: np.ndarray
    titles: list[str]
    units: list[str]
    fs: float | None = None
    head: list[str] = field(default_factory=list)


def read(source: Source, options: Options) -> RawEcg:
    """A table with one column a lead (or one row a lead, without titles)."""
    source.budget.check("table bytes", len(source.data))
    return _record(_parse(_decoded(source.data), source), options, source.name)


def read_chapman(source: Source, options: Options) -> RawEcg:
    """A CSV of Chapman-Shaoxing as first published: 500 Hz, µV (Zheng et al., Sci Data 7, 48, 2020)."""
    source.budget.check("table bytes", len(source.data))
    table = _parse(_decoded(source.data), source)
    table.fs, table.units = 500.0, ["uV"] * len(table.titles)
    return _record(table, options, source.name)


def read_xlsx(source: Source, options: Options) -> RawEcg:
    """The first sheet of a workbook, read as a table."""
    try:
        import openpyxl
    except ImportError as error:
        raise MissingExtraError("openpyxl", "formats") from error
    try:
        with zipfile.ZipFile(io.BytesIO(source.data)) as archive:
            source.budget.spend("table bytes", sum(entry.file_size for entry in archive.infolist()))
        sheet = openpyxl.load_workbook(io.BytesIO(source.data), read_only=True, data_only=True).worksheets[0]
    except EcgReadError:
        raise
    except Exception as error:  # a damaged workbook makes openpyxl raise anything
        raise EcgReadError(
            f"expected an Excel workbook with a sheet of samples, got a damaged one: {source.name}; save it as CSV"
        ) from error
    lines = []
    for row in sheet.iter_rows(values_only=True):
        source.budget.spend("table cells", len(row))
        lines.append("\t".join("" if cell is None else str(cell) for cell in row).rstrip("\t"))
    return _record(_parse("\n".join(lines), source), options, source.name)


def _decoded(data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")  # µV of older Windows programs


def _cells(line: str, delimiter: str) -> list[str]:
    parts = line.split() if delimiter == " " else line.split(delimiter)
    return [part.strip().strip("'\"").strip() for part in parts]


def _is_number(cell: str, comma: bool) -> bool:
    try:
        float(cell.replace(",", ".") if comma else cell)
    except ValueError:
        return False
    return True


def _is_row(cells: list[str], comma: bool) -> bool:
    """Numbers, empty cells, and perhaps a clock time in front."""
    rest = cells[1:] if _CLOCK.fullmatch(cells[0]) else cells
    filled = [cell for cell in rest if cell]
    return bool(filled) and all(_is_number(cell, comma) for cell in filled)


def _layout(lines: list[str], name: str) -> tuple[int, str, bool]:
    """First line of samples, delimiter, and whether decimals are commas."""
    for start, line in enumerate(lines):
        if not line.strip() or line.lstrip().startswith(("#", "%", "//")):
            continue
        following = next((other for other in lines[start + 1 :] if other.strip()), line)
        for delimiter in _DELIMITERS:
            if delimiter not in line.strip():
                continue
            cells, more = _cells(line, delimiter), _cells(following, delimiter)
            comma = delimiter != "," and any(
                re.fullmatch(r"[-+]?\d*,\d+(e[-+]?\d+)?", cell, re.I) for cell in cells + more
            )
            if len(cells) == len(more) and _is_row(cells, comma) and _is_row(more, comma):
                return start, delimiter, comma
        if _is_number(line.strip(), False) and _is_number(following.strip(), False):
            return start, ",", False  # one column
    raise EcgReadError(
        f"expected rows of numbers, one column a lead, got none in the first {_HEAD_LINES} lines of {name}; "
        "export the samples as CSV"
    )


def _parse(text: str, source: Source) -> Table:
    """Split off the lines before the samples and read the rest in one call."""
    end = 0
    lines: list[str] = []
    while len(lines) < _HEAD_LINES and end < len(text):
        cut = text.find("\n", end)
        cut = len(text) if cut < 0 else cut
        lines.append(text[end:cut].rstrip("\r"))
        end = cut + 1
    start, delimiter, comma = _layout(lines, source.name)
    first = _cells(lines[start], delimiter)
    source.budget.check("channels", len(first))
    source.budget.check("table cells", len(first) * (text.count("\n") + 1 - start))
    head = [line for line in lines[:start] if line.strip()]
    if _counts(first) and start + 1 < len(lines):  # spreadsheets title columns by number
        head, start = [*head, lines[start]], start + 1
    body = text.split("\n", start)[-1] if start else text
    clock = bool(_CLOCK.fullmatch(_cells(body.split("\n", 1)[0], delimiter)[0]))
    fs = _stated_rate(head)
    if clock:
        fs = fs or _clock_rate([_cells(line, delimiter)[0] for line in body.split("\n") if line.strip()])
    values = _numbers(body, delimiter, comma, len(first), clock, source.name)
    titles, units = _titles(head, delimiter, len(first))
    return Table(values, titles[int(clock) :], units[int(clock) :], fs, head)


def _numbers(body: str, delimiter: str, comma: bool, columns: int, clock: bool, name: str) -> np.ndarray:
    """(samples, columns) of the rows below the titles, without the clock column; NaN where a cell is empty."""
    plain = body.translate(_QUOTES | ({ord(","): "."} if comma else {}))
    if delimiter != " ":
        for _ in range(2):  # twice: of three delimiters in a row the first pass sees only two
            plain = plain.replace(delimiter * 2, f"{delimiter}nan{delimiter}")
        plain = re.sub(rf"(?m)^{delimiter}", f"nan{delimiter}", plain)
        plain = re.sub(rf"(?m){delimiter}[ \r]*$", f"{delimiter}nan", plain)
    try:
        return np.loadtxt(
            io.StringIO(plain),
            delimiter=None if delimiter == " " else delimiter,
            ndmin=2,
            comments=("#", "%"),
            usecols=range(1, columns) if clock else None,
        )
    except ValueError as error:  # ragged rows, text among the numbers
        raise EcgReadError(
            f"expected {columns} numbers in every row below the titles, got others in {name} "
            f"({str(error).splitlines()[0][:90]}); correct the file"
        ) from error


def _counts(cells: list[str]) -> bool:
    """Whether the cells count from 0 or 1, with or without an empty one in front."""
    numbers = cells[1:] if not cells[0] else cells
    return len(numbers) > 2 and numbers in (
        [str(i) for i in range(len(numbers))],
        [str(i) for i in range(1, len(numbers) + 1)],
    )


def _titles(head: list[str], delimiter: str, columns: int) -> tuple[list[str], list[str]]:
    """Titles and units of the columns, from the last lines that have as many cells."""
    rows = [_cells(line, delimiter) for line in head]
    rows = [row[:-1] if len(row) == columns + 1 and not row[-1] else row for row in rows]
    keyed = {row[0].rstrip("=:").lower(): row[1:] for row in rows if len(row) > 1}
    titles, units = [""] * columns, [""] * columns
    listed = keyed.get("channeltitle") or keyed.get("lead")  # LabChart; recorders of one lead
    if listed:
        titles[columns - len(listed) :] = listed
        ranges = keyed.get("unitname") or keyed.get("unit") or keyed.get("range") or []
        units[columns - len(ranges) :] = [cell.split()[-1] if cell else "" for cell in ranges]
    elif (stacked := _stacked(head)) and len(stacked) == columns:
        titles, units = [name for name, _ in stacked], [unit for _, unit in stacked]
    else:
        for row in rows:
            if len(row) != columns:
                continue
            if (
                any(titles)
                and all(is_voltage(cell) or not cell or not lead_name(cell) for cell in row)
                and any(map(is_voltage, row))
            ):
                units = row
            elif not all(_is_number(cell, False) for cell in row if cell) or _counts(row):
                titles = row
    for i, title in enumerate(titles):
        match = _BRACKET.match(title)
        if match and is_voltage(match[2]):
            titles[i], units[i] = match[1], match[2]
    return titles, units


def _stacked(head: list[str]) -> list[tuple[str, str]]:
    """BIOPAC text: a line ``N channels``, then name and unit of each in a line of its own."""
    for i, line in enumerate(head):
        match = re.fullmatch(r"\s*(\d{1,3}) channels\s*", line)
        if match and len(head) >= i + 1 + 2 * int(match[1]):
            cells = [text.strip() for text in head[i + 1 : i + 1 + 2 * int(match[1])]]
            return list(zip(cells[::2], cells[1::2]))
    return []


def _stated_rate(head: list[str]) -> float | None:
    for line in head:
        for pattern, meaning in _RATES:
            match = pattern.search(line)
            if match:
                value = float(match[1].replace(",", ".").rstrip("."))
                if meaning == "period":
                    value = (1000.0 if match[2].lower().startswith("m") else 1.0) / value if value else 0.0
                return value
    return None


def _clock_rate(cells: list[str]) -> float | None:
    """Rate, Hz, from the first and last clock time of a column."""
    times = []
    for cell in (cells[0], cells[-1]):
        match = _CLOCK.fullmatch(cell.strip().strip("'\""))
        if match is None:
            return None
        times.append(int(match[1] or 0) * 3600 + int(match[2]) * 60 + float(match[3].replace(",", ".")))
    # Clock times have milliseconds: nothing finer than a thousandth of a Hz is stated.
    return round((len(cells) - 1) / (times[1] - times[0]), 3) if times[1] > times[0] else None


def _record(table: Table, options: Options, name: str) -> RawEcg:
    """Leads by title; time and counter columns give the rate or are left out."""
    notes: list[str] = []
    keep = list(range(len(table.titles)))
    for i in list(keep):
        rate = _time_rate(table.values[:, i], table.titles[i], table.units[i]) if len(keep) > 1 else None
        if rate is None:
            continue
        keep.remove(i)
        if rate > 0 and table.fs is None:
            table.fs = rate
        if rate <= 0:
            notes.append(f"left out, a counter: column {table.titles[i] or i + 1}")
    named = [i for i in keep if lead_name(table.titles[i])]
    if named and options.lead_names is None:
        other = [table.titles[i] or f"column {i + 1}" for i in keep if i not in named]
        keep = named
        notes += [f"left out, no lead: {', '.join(other)}"] if other else []
    signal, titles = table.values[:, keep].T, tuple(table.titles[i] for i in keep)
    units = tuple(table.units[i] for i in keep)
    if not any(titles):
        signal, titles, units = oriented(signal.T, options.lead_names, name)
    fs = options.fs if options.fs is not None else table.fs
    unit = options.units or ("counts" if options.gain else None)
    missing = unit is None and not all(units)
    if fs is None or missing:
        raise EcgReadError(
            f"expected a sampling rate and a unit for {name}, got rate {fs} and unit {options.units}; the file does "
            "not hold them: pass fs=500, units='mV'"
        )
    if options.gain and not any(units):
        signal, unit = signal / options.gain, "mV"
    facts = _facts(table.head)
    return RawEcg(
        signal, check_rate(float(fs)), titles, tuple(u or str(unit) for u in units), facts[0], facts[1], tuple(notes)
    )


def _time_rate(column: np.ndarray, title: str, unit: str) -> float | None:
    """Rate, Hz, of a time column; 0 for one that only counts; None for a lead."""
    if lead_name(title) or len(column) < 3 or (title and not _TIME_TITLE.match(title)):
        return None
    steps = np.diff(column)
    if not (np.isfinite(steps).all() and steps.min() > 0 and np.ptp(steps) <= 0.5 * steps.mean()):
        return None
    if np.all(steps == 1) and not re.search(r"time|sec|\bms\b|zeit", title, re.I):
        return 0.0 if column[0] in (0, 1) else None
    milli = "ms" in (unit.lower(), title.lower()) or "(ms)" in title.lower() or "[ms]" in title.lower()
    return round(float(1.0 / steps.mean() * (1000.0 if milli else 1.0)), 3) if title else None


def oriented(
    table: np.ndarray, names: tuple[str, ...] | None, name: str
) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """(leads, samples), names and empty units of a bare table; the axis whose length fits the names holds the leads.

    Raises:
        EcgReadError: Neither axis fits.
    """
    if table.ndim != 2 or 0 in table.shape:
        raise EcgReadError(f"expected an array (leads, samples), got shape {table.shape}; store one ECG a file")
    count = len(names) if names else 12
    if count not in table.shape:
        raise EcgReadError(
            f"expected {count} leads along one axis of {name}, got shape {table.shape}; name them: lead_names="
        )
    signal = table if table.shape[0] == count else table.T
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(signal, dtype=np.float64), tuple(names or [""] * count), ("",) * count


def _facts(head: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """What ``key, value`` lines before the samples state: meta without identifiers, and the rest."""
    pairs = [re.split(r"\s*[,=:\t]\s*", line.strip().strip("#").strip(), maxsplit=1) for line in head]
    stated = {
        pair[0].strip("'\" ").lower(): pair[1].strip(",'\" ")
        for pair in pairs
        if len(pair) == 2 and pair[1].strip(", ")
    }
    meta = {"sex": sex} if (sex := sex_letter(stated.get("sex", stated.get("gender", "")))) else {}
    if "classification" in stated:
        meta["statements"] = (stated["classification"],)  # type: ignore[assignment]
    if "device" in stated:
        meta["device"] = stated["device"]
    identifying = ("name", "date of birth", "recorded date", "patient", "id", "date")
    return meta, {key: value for key, value in stated.items() if key in identifying}
