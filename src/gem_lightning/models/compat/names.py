"""Names of published checkpoints and ours: plain data, used in both directions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gem_lightning.errors import CheckpointError

# (ours, theirs): the first pair whose prefix fits counts
GEM_LAYOUT: tuple[tuple[str, str], ...] = (
    ("lm_head.", "lm_head."),
    ("model.ecg_tower.", "model.ecg_tower.ecg_tower."),
    ("model.vision_tower.", "model.vision_tower.vision_tower.vision_model."),
    ("model.vision_tower.", "model.vision_tower.vision_tower."),
    ("model.ecg_projector.", "model.ecg_projector."),
    ("model.multi_modal_projector.", "model.mm_projector."),
    ("model.image_newline", "model.image_newline"),
    ("model.language_model.", "model."),
)
LLAVA_HF_LAYOUT: tuple[tuple[str, str], ...] = (
    ("lm_head.", "language_model.lm_head."),
    ("lm_head.", "lm_head."),
    ("model.language_model.", "language_model.model."),
    ("model.language_model.", "model.language_model."),
    ("model.vision_tower.", "vision_tower.vision_model."),
    ("model.vision_tower.", "model.vision_tower.vision_model."),
    ("model.vision_tower.", "vision_tower."),
    ("model.vision_tower.", "model.vision_tower."),
    ("model.multi_modal_projector.0.", "multi_modal_projector.linear_1."),
    ("model.multi_modal_projector.0.", "model.multi_modal_projector.linear_1."),
    ("model.multi_modal_projector.2.", "multi_modal_projector.linear_2."),
    ("model.multi_modal_projector.2.", "model.multi_modal_projector.linear_2."),
    ("model.image_newline", "image_newline"),
    ("model.image_newline", "model.image_newline"),
)
OURS_LAYOUT: tuple[tuple[str, str], ...] = (
    ("model.vision_tower.", "model.vision_tower.vision_model."),
    ("", ""),
)
VISION_LAYOUT: tuple[tuple[str, str], ...] = (
    ("model.vision_tower.", "vision_tower.vision_tower.vision_model."),
    ("model.vision_tower.", "vision_model."),
    ("model.vision_tower.", ""),
)
LLM_LAYOUT: tuple[tuple[str, str], ...] = (
    ("lm_head.", "lm_head."),
    ("model.language_model.", "model."),
)
# Buffers that old libraries saved and current ones compute
COMPUTED = ("position_ids", "rotary_emb.inv_freq")
# Parts that a folder may bring or lack as a whole
PARTS: dict[str, str] = {
    "ecg_tower": "model.ecg_tower.",
    "vision_tower": "model.vision_tower.",
    "ecg_projector": "model.ecg_projector.",
    "multi_modal_projector": "model.multi_modal_projector.",
    "image_newline": "model.image_newline",
    "language_model": "model.language_model.",
    "lm_head": "lm_head.",
}


def to_ours(name: str, layout: Iterable[tuple[str, str]]) -> str | None:
    """Our name of a published tensor, or None where the layout does not know it."""
    return next((ours + name[len(theirs) :] for ours, theirs in layout if name.startswith(theirs)), None)


def to_theirs(name: str, layout: Iterable[tuple[str, str]]) -> str | None:
    """Return the published name of one of our tensors, or None where the layout does not know it."""
    return next((theirs + name[len(ours) :] for ours, theirs in layout if name.startswith(ours)), None)


def translate(tensors: Mapping[str, Any], layout: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """Return tensors under our names, without buffers that are computed.

    Raises:
        CheckpointError: The layout does not know a name.
    """
    kept = {name: value for name, value in tensors.items() if not name.endswith(COMPUTED)}
    named = {name: to_ours(name, layout) for name in kept}
    unknown = sorted(name for name, ours in named.items() if ours is None)
    if unknown:
        raise CheckpointError(
            f"expected the tensor names of {sorted({theirs for _, theirs in layout})}, got {_listed(unknown)}; "
            "this is another architecture"
        )
    return {str(named[name]): value for name, value in kept.items()}


def parts_of(names: Iterable[str]) -> set[str]:
    """Return which parts (keys of :data:`PARTS`) tensors under our names belong to."""
    names = list(names)
    return {part for part, prefix in PARTS.items() if any(name.startswith(prefix) for name in names)}


def check_fit(found: Mapping[str, Any], wanted: Mapping[str, Any], optional: Iterable[str] = ()) -> None:
    """Compare names and shapes before anything is read.

    Args:
        found: Tensors under our names.
        wanted: The network's own tensors (shapes only, they may lie on the meta device).
        optional: Names that may be missing.

    Raises:
        CheckpointError: Names are missing or unknown, or shapes differ; the message lists them.
    """
    missing = sorted(wanted.keys() - found.keys() - set(optional))
    unknown = sorted(found.keys() - wanted.keys())
    shapes = sorted(
        f"{name}: expected {tuple(wanted[name].shape)}, got {tuple(found[name].shape)}"
        for name in wanted.keys() & found.keys()
        if tuple(wanted[name].shape) != tuple(found[name].shape)
    )
    if missing or unknown or shapes:
        problems = [
            f"{what}: {_listed(names)}"
            for what, names in (("missing", missing), ("unknown", unknown), ("misshapen", shapes))
            if names
        ]
        raise CheckpointError(
            f"expected weights that fit the configuration, got {'; '.join(problems)}; "
            "is config.json of the same model, and the tower's configuration the right one?"
        )


def _listed(names: list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
