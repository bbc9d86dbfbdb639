"""The doctor's page: one self-contained HTML file with plots."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gem_lightning.grounding.doctor import Examination

SHOWN = 200  # faults of one kind on the page; doctor.jsonl has all

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1b2430}
table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}
td,th{border-bottom:1px solid #d8dee6;padding:.3rem .6rem;text-align:left;vertical-align:top}
.t{overflow-x:auto}td:last-child:not(.n){overflow-wrap:anywhere}
.n{text-align:right!important;font-variant-numeric:tabular-nums}.error{color:#a61b1b}.warning{color:#8a5a00}
summary{cursor:pointer;font-weight:600}svg{max-width:100%;height:auto}"""


def page(found: Examination, facts: Mapping[str, Any]) -> str:
    """The page of an examination; ``facts`` are the figures of ``doctor.json``."""
    from gem_lightning.grounding.doctor import MEANING, SEVERITY

    counts = found.counts()
    rows = [(SEVERITY[kind], kind.replace("_", " "), n, MEANING[kind]) for kind, n in counts.items()]
    verdict = "No faults." if not rows else f"{len(found.faults)} faults."
    parts = [f"<h1>Instruction data: {found.samples} samples</h1><p>{verdict}</p>"]
    if rows:
        parts.append(_table(("severity", "kind", "count", "meaning"), rows))
    parts += [_details(kind, found) for kind in counts]
    parts.append("<h2>Balance and lengths</h2>")
    parts.append(_bars("Findings that the answers state", found.labels))
    parts.append(_bars("Kinds of samples", found.kinds) + _bars("Splits", found.splits))
    parts.append(_histogram("Words of an answer", found.lengths))
    lengths = [(name, *(facts[name].get(k, "") for k in ("n", "mean", "min", "p5", "median", "p95", "max")))
               for name in ("words", "turns")]  # fmt: skip
    parts.append(_table(("", "n", "mean", "min", "5 %", "median", "95 %", "max"), lengths))
    head = "<!doctype html><html lang='en'><meta charset='utf-8'><title>Doctor</title>"
    head += f"<meta name='viewport' content='width=device-width,initial-scale=1'><style>{_STYLE}</style>"
    return head + "<body>" + "\n".join(part for part in parts if part) + "</body></html>\n"


def _table(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = "".join("<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows)
    sides = [" class='n'" if isinstance(value, int | float) else "" for value in rows[0]]
    titles = "".join(f"<th{side}>{html.escape(name)}</th>" for name, side in zip(header, sides))
    return f"<div class='t'><table><tr>{titles}</tr>{lines}</table></div>"


def _cell(value: Any) -> str:
    if isinstance(value, int | float):
        return f"<td class='n'>{value:g}</td>"
    mark = f" class='{value}'" if value in ("error", "warning") else ""
    return f"<td{mark}>{html.escape(str(value))}</td>"


def _details(kind: str, found: Examination) -> str:
    faults = [fault for fault in found.faults if fault["kind"] == kind]
    rows = [(str(fault["id"]), str(fault["file"]), str(fault["words"])) for fault in faults[:SHOWN]]
    more = f"<p>{len(faults) - SHOWN} more in doctor.jsonl</p>" if len(faults) > SHOWN else ""
    title = f"{html.escape(kind.replace('_', ' '))} ({len(faults)})"
    return f"<details><summary>{title}</summary>{_table(('sample', 'file', 'what'), list(rows))}{more}</details>"


def _bars(title: str, counts: Mapping[str, int]) -> str:
    if not counts:
        return ""
    top = dict(list(counts.items())[:30])
    figure, axes = _axes(title, 0.25 * len(top) + 0.9)
    axes.barh([name.replace("_", " ") for name in top], list(top.values()), color="#2b6cb0")
    axes.invert_yaxis()
    axes.xaxis.get_major_locator().set_params(integer=True)
    return _svg(figure)


def _histogram(title: str, values: list[int]) -> str:
    if not values:
        return ""
    figure, axes = _axes(title, 2.4)
    axes.hist(values, bins=min(40, max(5, len(set(values)))), color="#2b6cb0")
    axes.yaxis.get_major_locator().set_params(integer=True)
    return _svg(figure)


def _axes(title: str, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, height), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Any) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]  # without the XML declaration, which HTML has no place for
