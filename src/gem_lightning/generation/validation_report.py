"""The doctor's page: one self-contained HTML file with plots."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gem_lightning.generation.validate import Examination

SHOWN = 200  # faults of one kind on the page; doctor.jsonl has all

BARS = 30  # most bars of one plot; doctor.json has all

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1b2430}
table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}
td,th{border-bottom:1px solid #d8dee6;padding:.3rem .6rem;text-align:left;vertical-align:top}
.t{overflow-x:auto}td:last-child:not(.n){overflow-wrap:anywhere;min-width:10rem}
.n{text-align:right!important;font-variant-numeric:tabular-nums}.error{color:#a61b1b}.warning{color:#8a5a00}
summary{cursor:pointer;font-weight:600;padding:.15rem 0}svg{max-width:100%;min-width:30rem;height:auto}
.bars{display:grid;grid-template-columns:minmax(6rem,max-content) 1fr;gap:.15rem .6rem;margin:.5rem 0 1.5rem}
.bars i{display:inline-block;height:.8rem;background:#2b6cb0;margin-right:.4rem;vertical-align:middle}
@media(max-width:40rem){body{margin:1rem auto;font-size:14px}h1{font-size:1.5rem}td,th{padding:.25rem .3rem}
td:last-child:not(.n){min-width:7.5rem}}"""


def page(found: Examination, facts: Mapping[str, Any]) -> str:
    """The page of an examination; ``facts`` are the figures of ``doctor.json``."""
    from gem_lightning.generation.validate import MEANING, SEVERITY

    counts = dict(sorted(found.counts().items(), key=lambda pair: (SEVERITY[pair[0]], -pair[1])))  # errors first
    rows = [(SEVERITY[kind], kind.replace("_", " "), n, MEANING[kind]) for kind, n in counts.items()]
    tally = {name: sum(n for severity, _, n, _ in rows if severity == name) for name in ("error", "warning")}
    told = [f"{n:,} {name}{'s' if n > 1 else ''}" for name, n in tally.items() if n]
    parts = [f"<h1>Instruction data: {found.samples:,} samples</h1><p>{', '.join(told) or 'No faults'}.</p>"]
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
        return f"<td class='n'>{round(value, 1):,}</td>".replace(".0<", "<")
    mark = f" class='{value}'" if value in ("error", "warning") else ""
    return f"<td{mark}>{html.escape(str(value))}</td>"


def _details(kind: str, found: Examination) -> str:
    faults = [fault for fault in found.faults if fault["kind"] == kind]
    rows = [(str(fault["id"]), str(fault["file"]), str(fault["words"])) for fault in faults[:SHOWN]]
    more = f"<p>{len(faults) - SHOWN} more in doctor.jsonl</p>" if len(faults) > SHOWN else ""
    title = f"{html.escape(kind.replace('_', ' '))} ({len(faults)})"
    return f"<details><summary>{title}</summary>{_table(('sample', 'file', 'what'), list(rows))}{more}</details>"


def _bars(title: str, counts: Mapping[str, int]) -> str:
    """Bars as HTML: their words stay legible on any screen."""
    if not counts:
        return ""
    most, top = max(counts.values()), list(counts.items())[:BARS]
    bars = "".join(
        f"<span>{html.escape(name.replace('_', ' '))}</span><span><i style='width:{75 * n / most:.1f}%'></i>{n:,}"
        "</span>"
        for name, n in top
    )
    more = f", {BARS} of {len(counts)}" if len(counts) > BARS else ""
    return f"<h3>{html.escape(title)}{more}</h3><div class='bars'>{bars}</div>"


def _histogram(title: str, values: list[int]) -> str:
    if not values:
        return ""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 2.2), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.hist(values, bins=min(40, max(5, len(set(values)))), color="#2b6cb0")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return f"<h3>{html.escape(title)}</h3><div class='t'>{_svg(figure)}</div>"


def _svg(figure: Any) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]  # without the XML declaration, which HTML has no place for
