"""Revision of texts against the measurements of their record, sentence by sentence."""

from gem_lightning.revision.edit import Edit, Revision, kept_share
from gem_lightning.revision.grammar import faults
from gem_lightning.revision.options import VerifyOptions
from gem_lightning.revision.revise import StreamWriter, TextWriter, collect, revise, revise_sentences
from gem_lightning.revision.reviser import Reviser

__all__ = [
    "Edit",
    "Reviser",
    "Revision",
    "StreamWriter",
    "TextWriter",
    "VerifyOptions",
    "collect",
    "faults",
    "kept_share",
    "revise",
    "revise_sentences",
]
