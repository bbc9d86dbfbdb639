"""Polarity and certainty: how far a denial or a hedge reaches."""

from __future__ import annotations

import re

from gem_lightning.claims.parser.contexts import CLAUSE, apply_contexts
from gem_lightning.claims.parser.tokenize import Item
from gem_lightning.claims.parser.units import Mention

#: Findings that one "no" covers across "and" ("no ST elevation and depression").
_FAMILIES = (
    frozenset(("st_elevation", "st_depression", "t_inversion", "t_flat", "t_peaked", "pathological_q")),
    frozenset(("lvh", "rvh", "left_atrial_enlargement", "right_atrial_enlargement")),
    frozenset(("rbbb", "lbbb", "incomplete_rbbb", "incomplete_lbbb", "lafb", "lpfb", "ivcd")),
    frozenset(("pac", "pvc", "bigeminy")),
    frozenset(("atrial_fibrillation", "atrial_flutter")),
    frozenset(("av_block_1", "av_block_2_mobitz_1", "av_block_2_mobitz_2", "av_block_3")),
)


#: Kinds that answer the question before them.
_EXCLUDES = re.compile("exclu|ruled")
_ANSWERS = frozenset(
    ("answer_yes", "answer_no", "answer_open", "no_pre", "no_post", "A", "may_pre", "may_unlikely_pre", "may_post")
)


#: Beginnings of the kinds that deny, hedge or answer; a sentence without one is as it stands.
_POLARITY = ("no_", "may_", "answer_", "?")


def apply_scope(items: list[Item], mentions: list[Mention], kinds: set[str], question: bool, tail: int) -> None:
    """Mark mentions as negated, uncertain or dropped, in place.

    Args:
        items: The sentence.
        mentions: Its mentions in order, with places.
        kinds: Kinds of the items.
        question: It is a question that nothing answers.
        tail: Unknown words after the last item.
    """
    if question:
        for mention in mentions:
            mention.dropped = True
        return
    if any(kind.startswith(_POLARITY) for kind in kinds) or (
        "A" in kinds and any(k.kind == "A" and ("absent" in k.data or k.text in ("negative", "neg")) for k in items)
    ):
        _forward(items, mentions, tail)
        _backward(items, mentions, tail)
    apply_contexts(items, mentions, kinds)
    if not kinds.isdisjoint(_FLIPS):
        _flip(items, mentions)


_FLIPS = frozenset(("no_flip_post", "no_flip", "no_cannot_claim"))


def _flip(items: list[Item], mentions: list[Mention]) -> None:
    """Turn what a statement about the statement denies."""
    for i, item in enumerate(items):
        if item.kind == "no_flip_post":  # "the claim that LBBB is present is wrong"
            for mention in mentions:
                if mention.i1 < i:
                    mention.negated = not mention.negated
        if item.kind == "no_cannot_claim":  # "one cannot claim that LVH is absent": it may be present
            for mention in mentions:
                if mention.i0 > i or mention.i0 <= i < mention.i1:
                    mention.codes = tuple(
                        "!" + c[1:] if c[0] == "~" else c for c in mention.codes
                    )  # P waves may be there
                    mention.negated, mention.uncertain = not mention.negated, True
        if item.kind == "no_flip":  # "it is wrong to say that ... is missing"
            for mention in mentions:
                if mention.i0 > i:
                    mention.negated = not mention.negated


#: Verbs of a new statement; "suggestive of", "consistent with" belong to the one before ("no Q waves suggestive of").
_VERBS = frozenset(
    (
        "suggests",
        "suggest",
        "suggesting",
        "points",
        "pointing",
        "raises",
        "raise",
        "favors",
        "favours",
        "supports",
        "which",
        "could",
        "may",
        "might",
    )
)


class _State:
    __slots__ = ("far", "fixed", "hedged", "listed", "negated", "one", "opened", "seen")

    def __init__(self) -> None:
        self.negated = self.hedged = self.far = self.fixed = self.one = self.listed = False
        self.seen: Mention | None = None
        self.opened: int | None = None


def _forward(items: list[Item], mentions: list[Mention], tail: int) -> None:
    """Walk the sentence with a state that denials and hedges open and clause ends close."""
    starts: dict[int, list[Mention]] = {}
    for mention in mentions:
        starts.setdefault(_anchor(items, mention), []).append(mention)
    state, stack = _State(), []
    for i, item in enumerate(items):
        kind = item.kind
        if kind == "," and state.seen is None and state.opened is not None and _is_spent(items, state.opened, i):
            state = _State()  # "the PR never varies, first-degree AV block is present"
        if kind in ("no_pre", "no_pre_one"):
            state.negated, state.one, state.seen, state.opened = True, kind == "no_pre_one", None, i
        elif kind == "no_gone" and not any(m.i1 < i for m in mentions):  # "no longer seen are"
            state.negated, state.seen = True, None
        elif kind == "no_replaces":
            state = _State()
            state.negated = state.one = True
        elif kind == "no_replaced":
            state = _State()
        elif (kind == "may_pre" and not _is_postposed(items, i, mentions, tail)) or (
            kind == "?" and i + 1 < len(items) and _prefixes(items, i)
        ):
            state.hedged, state.seen = True, None
        elif kind == "may_pre_far":
            if state.seen is not None and item.text.split()[0] in _VERBS:
                state = _State()  # "the lack of P waves suggests ..."
            state.hedged, state.far, state.seen = True, True, None
        elif kind == "may_post" and not any(m.i1 < i for m in mentions):  # "it is possible that"
            state.hedged, state.seen = True, None
        elif (kind == "may_unlikely_post" and not any(m.i1 < i for m in mentions)) or (
            kind == "may_unlikely_pre" and not _is_postposed(items, i, mentions, tail)
        ):
            state.hedged = state.negated = True
            state.seen = None
        elif kind == "A" and "absent" in item.data and not any(m.i0 <= i <= m.i1 for m in mentions):
            if any(m.i0 > i for m in mentions) and not _closes(items, i):
                state.negated, state.seen = True, None
        elif kind == "(":
            stack.append(state)
            state = _State()
        elif kind == ")":
            state = stack.pop() if stack else _State()
        elif kind == "equals" and i and all(_sets_polarity(item) for item in items[:i]):
            state.fixed = True  # "Absent: LVH, RVH"
        elif kind == "with" and i and items[i - 1].kind in ("may_pre", "may_pre_far"):  # "perhaps with LVH"
            state = _State()
            state.hedged = True
        elif kind in ("but", "with", "equals", "off_now"):
            state = _State()
        elif kind in (",", "and", "is", "-") and state.seen is not None and not state.fixed:
            state = _step(items, i, state, mentions)
        for mention in starts.get(i, ()):
            mention.negated |= state.negated
            beside = mention.head is not None and mention.head.implied  # "possible flutter at 74 bpm": the rate is sure
            mention.uncertain |= state.hedged and not (mention.values and (beside or state.seen is not None))
            if mention.values or any(code[0] != "=" for code in mention.codes) or mention.negated:
                state.seen = mention
            if state.one:
                state.negated = state.one = False


def _is_spent(items: list[Item], opened: int, comma: int) -> bool:
    """A denial that denied a verb or a word without a code before the comma: "is not conducted, ..."."""
    after = items[opened + 1 : comma + 1]
    return bool(after) and (len(after) > 1 or bool(after[-1].gap)) and not any(k.kind in ("or", "L") for k in after)


def _sets_polarity(item: Item) -> bool:
    return item.kind.startswith(("no_", "may_")) or item.kind == "in" or (item.kind == "A" and "absent" in item.data)


def _anchor(items: list[Item], mention: Mention) -> int:
    """Where the mention meets the state: a predicate ("T waves are not inverted") counts where its last word stands."""
    if mention.values and mention.i1 > mention.i0 and items[mention.i1 - 1].kind == "no_pre":
        return mention.i1  # "PR is not 240 ms"
    if (
        mention.head is not None
        and mention.codes
        and any(items[k].kind == "no_pre" for k in range(mention.head.i0, mention.i1))
    ):
        return mention.i1
    return mention.i0


def _is_postposed(items: list[Item], i: int, mentions: list[Mention], tail: int) -> bool:
    """``LVH is likely.``: the hedge closes its clause and a mention stands before it."""
    opens_cause = (
        i
        and items[i - 1].kind == ","
        and ((i + 1 == len(items) and tail) or (items[i + 1 : i + 2] and items[i + 1].kind in ("in", "with")))
    )
    return _closes(items, i) and not opens_cause and any(m.i1 < i for m in mentions)  # ", perhaps from obesity"


def _closes(items: list[Item], i: int) -> bool:
    return i + 1 >= len(items) or items[i + 1].kind in (",", ")", "but", "(", "with", "and", "in", "off_now", "?")


def _prefixes(items: list[Item], i: int) -> bool:
    """``?LVH``: the mark touches what follows, or opens the sentence or a list item."""
    if items[i + 1].kind == ")":
        return False
    return items[i + 1].start == items[i].end or (i == 0 or items[i - 1].kind in (",", "(", "/", "equals"))


def _step(items: list[Item], i: int, state: _State, mentions: list[Mention]) -> _State:
    """The state after a comma, an "and" or a verb that follows a mention."""
    kind = items[i].kind
    following = next((m for m in mentions if m.i0 > i), None)
    if kind == "and" and i and items[i - 1].kind == ",":
        kind = ","
    if following is None:
        return state
    if kind in ("is", "-"):
        own = state.seen is not None and state.seen.head is not None and following.head is state.seen.head
        return state if own or (kind == "-" and not items[i].gap and items[i].start == items[i - 1].end) else _State()
    if kind == ",":
        state.listed = True
        return state if _list_goes_on(items, i, mentions) else _State()
    assert state.seen is not None
    if state.far and items[i].data != "the" and not state.negated:
        return state
    if state.listed and state.negated and _closes_list(items, following):
        return state
    if items[i].data == "the" or following.values or not _related(state.seen, following):
        return _State()
    joined = _next_places(items, following)
    return _State() if joined and state.seen.leads and following.leads != state.seen.leads else state


def _next_places(items: list[Item], mention: Mention) -> bool:
    return any(items[k].kind == "L" for k in range(mention.i1 + 1, min(mention.i1 + 4, len(items))))


def _related(one: Mention, two: Mention) -> bool:
    codes = {code.lstrip("!=~") for code in one.codes + two.codes}
    return any(codes <= family for family in _FAMILIES) and not any(code[0] == "!" for code in two.codes)


def _list_goes_on(items: list[Item], i: int, mentions: list[Mention]) -> bool:
    """A comma inside "no A, B or C": an "or" comes before the clause ends, and nothing in between states a value."""
    if i + 1 < len(items) and items[i + 1].kind == "or":
        return True
    for k in range(i + 1, len(items)):
        kind = items[k].kind
        if kind == "and" and items[k].data != "the" and _plain_list(items, i, k, mentions):
            return True
        if kind in ("or", "no_or"):
            before = [m for m in mentions if i < m.i0 < k]
            return not any(m.values for m in before) and bool(before)
        if kind in ("but", "with", "(", "equals", "no_pre", "is", "off_now") or kind == "M":
            return False
    return False


def _plain_list(items: list[Item], i: int, k: int, mentions: list[Mention]) -> bool:
    """ "No A, B and C" of abnormal findings by name, with no place and no property."""
    before = [m for m in mentions if i < m.i0 < k]
    after = [m for m in mentions if m.i0 > k]
    named = all(m.head is None and not m.values and not m.leads for m in before)
    return bool(before) and bool(after) and named and _closes_list(items, after[0])


def _closes_list(items: list[Item], mention: Mention) -> bool:
    """The last of a list of findings by name, at the end of the sentence."""
    return mention.head is None and not mention.values and not mention.leads and mention.i1 == len(items) - 1


def _backward(items: list[Item], mentions: list[Mention], tail: int) -> None:
    """Denials and hedges that follow what they speak of."""
    for i, item in enumerate(items):
        kind = item.kind
        if kind in ("no_post", "may_post", "may_unlikely_post"):
            pass
        elif kind in ("no_gone", "no_replaced", "answer_no") or (kind == "A" and _answers_negative(items, i)):
            kind = "no_post"
        elif kind == "answer_open":
            for mention in _before(items, mentions, i):
                mention.dropped = True
            continue
        elif kind == "may_denied_claim":
            for mention in _before(items, mentions, i):
                mention.negated, mention.uncertain = False, True
            continue
        elif kind == "?" and i + 1 < len(items) and items[i + 1].kind in _ANSWERS and items[i + 1].start > items[i].end:
            continue
        elif kind in ("may_pre", "may_unlikely_pre") and _is_postposed(items, i, mentions, tail):
            kind = "may_post" if kind == "may_pre" else "may_unlikely_post"
        elif kind == "?" and not (i + 1 < len(items) and _prefixes(items, i)):
            kind = "may_post"
        elif kind == "no_pre" and (i + 1 == len(items) or (items[i - 1].kind == "?" and items[i + 1].kind == ",")):
            kind = "no_post"
        elif kind == "may_versus":
            kind = "may_post"
            following = next((m for m in mentions if m.i0 > i), None)
            if following is not None:
                following.uncertain = True
        elif kind == "A" and "absent" in item.data and not any(m.i0 <= i <= m.i1 for m in mentions):
            if any(m.i0 > i for m in mentions) and not _closes(items, i):
                continue
            kind = "no_post"
        else:
            continue
        for mention in _before(items, mentions, i):
            if mention.negated and item.kind == "no_post" and _EXCLUDES.search(item.text):
                mention.negated, mention.uncertain = False, True  # "does not allow LVH to be excluded"
                continue
            mention.negated = mention.negated or kind in ("no_post", "may_unlikely_post")
            mention.uncertain = mention.uncertain or kind in ("may_post", "may_unlikely_post")


def _answers_negative(items: list[Item], i: int) -> bool:
    """``LVH: negative``."""
    return i > 1 and items[i].text in ("negative", "neg") and items[i - 1].kind == "equals" and items[i - 2].kind == "F"


def _before(items: list[Item], mentions: list[Mention], i: int) -> list[Mention]:
    """The mention before ``i`` in its clause and those joined with it."""
    found: list[Mention] = []
    for mention in reversed([m for m in mentions if m.i1 < i]):
        if found and _predicates(items, mention):
            break
        last = found[-1].i0 if found else i
        between = [items[k].kind for k in range(mention.i1 + 1, last)]
        if not found:
            turned = "but" in between and items[i].kind != "no_gone"  # "was seen in V2, but it has resolved"
            if turned or "with" in between or _has_subject(items, mention.i1 + 1, last):
                break
        elif mention.i0 != found[-1].i0 and (
            not between or not set(between) <= {"and", "or", "/", "no_pre", "L", "in"}
        ):
            break
        found.append(mention)
    return found


def _has_subject(items: list[Item], start: int, end: int) -> bool:
    """A comma and unknown words stand between: "the QRS is narrow, a ventricular origin is improbable"."""
    mark = next((k for k in range(end - 1, start - 1, -1) if items[k].kind in (",", "-")), None)
    if mark is None:
        return False
    unknown = sum(items[k].gap for k in range(mark + 1, min(end + 1, len(items))))
    dashed = items[mark].kind == "-" and items[mark].start > items[mark - 1].end  # "... - lead placement?"
    return unknown > (0 if dashed else 1)


def _predicates(items: list[Item], mention: Mention) -> bool:
    """The mention closes a statement of its own: "the rhythm is irregular and P waves are absent"."""
    if any(f" {verb} " in items[mention.i0].text for verb in ("is", "are")):
        return True
    for k in range(mention.i1, -1, -1):
        if items[k].kind == "is":
            return True
        if items[k].kind in CLAUSE or (items[k].kind == "and" and k < mention.i0):
            return False
    return False
