"""Metrics of ECG encoders: retrieval, zero-shot class embeddings, macro AUC and a closed-form probe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from gem_lightning.evaluation.statistics import macro_auc


def retrieval_recall(ecg: Tensor, text: Tensor, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """Compute the share of ECGs whose own text is among the ``k`` most similar, and the reverse.

    Args:
        ecg: (N, D) of unit length.
        text: (N, D) of unit length, in the same order.
        ks: Ranks to report.

    Returns:
        ``ecg_to_text_R@k`` and ``text_to_ecg_R@k``. A text that ties with the own one ranks before it, so that
        constant embeddings score 0.
    """
    similarity = ecg.float() @ text.float().T  # (N, N)
    found: dict[str, float] = {}
    for name, table in (("ecg_to_text", similarity), ("text_to_ecg", similarity.T)):
        rank = (table >= table.diagonal()[:, None]).sum(dim=1)
        for k in ks:
            found[f"{name}_R@{k}"] = (rank <= k).double().mean().item()
    return found


def class_embeddings(prompts: Tensor, owner: Tensor, labels: int) -> Tensor:
    """Return one unit vector per label: the mean of its prompts' unit vectors.

    Args:
        prompts: (P, D).
        owner: (P,) label of each prompt.
        labels: Number of labels L.

    Returns:
        (L, D).
    """
    prompts = F.normalize(prompts.float(), dim=-1)
    summed = torch.zeros(labels, prompts.shape[1], device=prompts.device).index_add_(0, owner, prompts)
    return F.normalize(summed, dim=-1)


def macro_auroc(scores: Any, targets: Any) -> float:
    """Return the mean area under the ROC curve over the labels that have both classes; NaN where none has.

    Args:
        scores: (N, L) array or tensor, larger for present.
        targets: (N, L) of 0 and 1.
    """
    arrays = [value.double().cpu().numpy() if isinstance(value, Tensor) else value for value in (scores, targets)]
    return float(macro_auc(*arrays)[0, 0])


def ridge_probe(features: Tensor, targets: Tensor, others: Tensor, penalty: float = 1.0) -> Tensor:
    """Score with a linear probe in closed form, fast enough for every validation.

    Args:
        features: (N, D) to fit on.
        targets: (N, L).
        others: (M, D) to score.
        penalty: Penalty on the squared weights of standardised features, per sample.

    Returns:
        (M, L).
    """
    # 1e-6 keeps constant features at zero
    mean, std = features.mean(0), features.std(0) + 1e-6
    x, y = ((features - mean) / std).double(), (targets - targets.mean(0)).double()
    gram = x.T @ x + penalty * len(x) ** 0.5 * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    weights = torch.linalg.solve(gram, x.T @ y)
    return ((others - mean) / std).double() @ weights
