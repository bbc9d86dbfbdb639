"""How good an ECG encoder is: retrieval, zero-shot scores, probes, and intervals by patient."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812


def retrieval_recall(ecg: Tensor, text: Tensor, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """Share of ECGs whose own text is among the ``k`` most similar, and the other way round.

    Args:
        ecg: (N, D) of unit length.
        text: (N, D) of unit length, in the same order.
        ks: Ranks of interest.

    Returns:
        ``ecg_to_text_R@k`` and ``text_to_ecg_R@k``. A text that ties with the own one ranks before it.
    """
    similarity = ecg.float() @ text.float().T  # (N, N)
    found: dict[str, float] = {}
    for name, table in (("ecg_to_text", similarity), ("text_to_ecg", similarity.T)):
        own = table.diagonal()[:, None]
        # equal texts are no worse an answer than the own one; only others that are as near count against it
        rank = (table >= own).sum(dim=1)
        for k in ks:
            found[f"{name}_R@{k}"] = (rank <= k).double().mean().item()
    return found


def class_embeddings(prompts: Tensor, owner: Tensor, labels: int) -> Tensor:
    """One unit vector a label: the mean of its prompts' unit vectors.

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


def auroc_per_label(scores: Tensor, targets: Tensor) -> Tensor:
    """Area under the ROC curve of each label, NaN where a class is absent.

    Args:
        scores: (N, L), larger for present.
        targets: (N, L) of 0 and 1.
    """
    from torchmetrics.functional.classification import binary_auroc

    out = torch.full((targets.shape[1],), float("nan"))
    for label in range(targets.shape[1]):
        truth = targets[:, label].int()
        if 0 < int(truth.sum()) < len(truth):
            # ranks instead of scores: torchmetrics squashes scores outside 0 to 1 and may tie them
            ranks = scores[:, label].double().unique(return_inverse=True)[1].double()
            out[label] = binary_auroc(ranks / ranks.max().clamp(min=1), truth).item()
    return out


def macro_auroc(scores: Tensor, targets: Tensor) -> float:
    """Mean over labels of :func:`auroc_per_label`; labels without both classes are left out."""
    return auroc_per_label(scores, targets).nanmean().item()


def ridge_probe(features: Tensor, targets: Tensor, others: Tensor, penalty: float = 1.0) -> Tensor:
    """Scores of a linear probe in closed form, quick enough for every validation.

    Args:
        features: (N, D) to fit on.
        targets: (N, L).
        others: (M, D) to score.
        penalty: On the squared weights of standardised features, per sample.

    Returns:
        (M, L).
    """
    mean, std = features.mean(0), features.std(0) + 1e-6
    x, y = ((features - mean) / std).double(), (targets - targets.mean(0)).double()
    gram = x.T @ x + penalty * len(x) ** 0.5 * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    weights = torch.linalg.solve(gram, x.T @ y)
    return ((others - mean) / std).double() @ weights


def patient_bootstrap(
    metric: Callable[[np.ndarray], float], patients: Sequence[str], draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """A 95 % interval that draws patients, not records, with replacement.

    Args:
        metric: Value for record indices (N,), which may repeat; NaN draws are left out.
        patients: (records,) who each record is of.
        draws: Number of resamples.
        seed: Of the draws.

    Returns:
        Percentiles 2.5 and 97.5.
    """
    names, member = np.unique(np.asarray(patients), return_inverse=True)
    order = np.argsort(member, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(member[order])) + 1)
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(draws):
        chosen = rng.integers(0, len(names), len(names))
        values.append(metric(np.concatenate([groups[i] for i in chosen])))
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def fast_auroc(scores: np.ndarray, truth: np.ndarray) -> float:
    """Area under the ROC curve by ranks, ties counted half; NaN where a class is absent."""
    from scipy.stats import rankdata

    positive = truth > 0
    n, m = int(positive.sum()), int((~positive).sum())
    if n == 0 or m == 0:
        return float("nan")
    return float((rankdata(scores)[positive].sum() - n * (n + 1) / 2) / (n * m))
