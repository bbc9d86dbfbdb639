"""What transformers' decoding looks up by token id, kept inside the vocabulary: placeholders lie beyond it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessorList
from transformers.generation.candidate_generator import CandidateGenerator


def in_vocabulary(input_ids: Tensor, vocabulary: int) -> Any:
    """Replace placeholders in ids (B, S) by their row's first token, which the prompt holds anyway."""
    return torch.where(input_ids < vocabulary, input_ids, input_ids[:, :1])


class InVocabulary(LogitsProcessorList):
    """Processors that look tokens up, such as the repetition penalty, see no placeholder id."""

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        """Apply the processors to ``scores`` (B, V)."""
        return super().__call__(in_vocabulary(input_ids, scores.shape[-1]), scores, **kwargs)  # type: ignore[arg-type]


class InVocabularyCandidates(CandidateGenerator):
    """Candidates for assisted decoding from a generator that knows no placeholders.

    Args:
        generator: Prompt lookup, or an assistant that is a language model without towers.
        vocabulary: Size of the vocabulary.
    """

    def __init__(self, generator: CandidateGenerator, vocabulary: int) -> None:
        self.generator, self.vocabulary = generator, vocabulary

    def get_candidates(self, input_ids: Any, **kwargs: Any) -> Any:
        """Return (1, S + candidates) ids that begin with the prompt as it is, and the candidates' logits or None."""
        ids, logits = self.generator.get_candidates(in_vocabulary(input_ids, self.vocabulary), **kwargs)
        return torch.cat([input_ids, ids[:, input_ids.shape[1] :].to(input_ids.device)], dim=1), logits

    def update_candidate_strategy(self, input_ids: Any, scores: Any, num_matches: int) -> None:
        """Report to the generator how many candidates were right."""
        known = in_vocabulary(input_ids, self.vocabulary)
        self.generator.update_candidate_strategy(known, scores, num_matches)
