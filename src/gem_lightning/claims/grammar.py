"""One sentence to claims: the stages in order, and the last step from mentions to claims."""

from __future__ import annotations

from gem_lightning.claims.claim import Claim
from gem_lightning.claims.parser.heads import Mention
from gem_lightning.claims.parser.lexicon import Lexicon
from gem_lightning.claims.parser.linking import attach_places
from gem_lightning.claims.parser.locations import merge_places
from gem_lightning.claims.parser.mentions import find_mentions
from gem_lightning.claims.parser.negation import apply_scope
from gem_lightning.claims.parser.quantities import merge_numbers
from gem_lightning.claims.parser.tokenize import Item, scan

_SPEAKING = frozenset(("Q", "A", "F", "I", "M"))
_LEFTOVERS = frozenset(
    ("lead", "beat", "number", "any", "criteria", "reciprocal", "every", "other", "ordinal", "last", "skip")
)


def parse(sentence: str, words: Lexicon) -> list[Claim]:
    """The claims of one sentence, spans relative to it, in order of appearance."""
    items = scan(sentence, words)
    items = merge_numbers(merge_places(items))
    items = _tidy(items)
    if not any(item.kind in _SPEAKING for item in items):
        return []
    mentions, used = find_mentions(items, words)
    if not mentions:
        return []
    attach_places(items, mentions, used)
    apply_scope(items, mentions, sentence.rstrip().endswith("?"))
    claims: list[Claim] = []
    said: set[tuple] = set()
    for mention in mentions:
        if not mention.dropped:
            for claim in _claims(items, mention):
                # "Mobitz I (Wenckebach)" and "1.2 mV (12 mm)" say one thing each
                again = claim.kind == "finding" or items[mention.i1 - 1].kind == "("
                if again and claim[:10] in said:
                    continue
                said.add(claim[:10])
                claims.append(claim)
    return sorted(claims, key=lambda claim: claim.span)


def _tidy(items: list[Item]) -> list[Item]:
    """Without words that have done their work; a reciprocal change opens a clause of its own."""
    kept: list[Item] = []
    for item in items:
        if item.kind == "reciprocal" and kept and kept[-1].kind in ("with", "and"):
            kept[-1] = kept[-1]._replace(kind="but")
        elif item.kind not in _LEFTOVERS:
            kept.append(item)
    return kept


def _claims(items: list[Item], mention: Mention) -> list[Claim]:
    if mention.values:
        return _measured(items, mention)
    span = (items[mention.i0].start, items[mention.i1].end)
    found = []
    for code in mention.codes:
        mark, negated = code[0], mention.negated
        if mark == "=":  # a group that only its denial states
            if not negated:
                continue
        elif mark == "~":  # "no P waves" is the finding that they are absent
            if not negated:
                continue
            negated = False
        elif mark == "!":
            negated = not negated
        name = code.lstrip("!=~")
        leads = () if name.startswith("mi_") else mention.leads
        stated = Claim("finding", None, None, None, None, leads, None, name, negated, mention.uncertain, span)
        found += [stated._replace(beat=beat) for beat in mention.beats] or [stated]
    return found


def _measured(items: list[Item], mention: Mention) -> list[Claim]:
    """One claim a value, or a value and beat or lead where they correspond."""
    values, leads, beats = mention.values, mention.leads, mention.beats
    span = (items[mention.i0].start, items[mention.i1].end)
    count = len(values)
    per_lead = count > 1 and len(leads) == count
    per_beat = count > 1 and len(beats) == count
    found = []
    for k, (kind, value, low, high, unit, name) in enumerate(values):
        if mention.negated and value is None and (low is None) != (high is None):
            low, high = high, low  # "no ST elevation above 1 mm"
        where = (leads[k],) if per_lead else leads
        stated = Claim(kind, value, low, high, unit, where, None, name, False, mention.uncertain, span)
        found += [stated._replace(beat=beat) for beat in ((beats[k],) if per_beat else beats)] or [stated]
    return found
