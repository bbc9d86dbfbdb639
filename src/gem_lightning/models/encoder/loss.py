"""What ECG-CoCa is trained on: contrast between pairs over all ranks, and captions."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from open_clip.loss import ClipLoss, CoCaLoss, SigLipLoss
from torch import Tensor, nn
from torch import distributed as dist

from gem_lightning.errors import DataError


class CocaObjective:
    """Weighted contrastive and caption losses of an ``EcgCoCa`` on one batch.

    Under several processes each computes its own rows against the columns of all, and the mean over processes (what
    DDP makes of the gradients) equals one process with the whole batch.

    Args:
        caption_weight: Of the caption loss; 0 leaves it out.
        contrastive_weight: Of the contrastive loss; 0 leaves it out.
        contrastive: ``softmax`` (CLIP) or ``sigmoid`` (SigLIP, arXiv:2303.15343; wants ``init_logit_bias``).

    Raises:
        DataError: Another kind of contrast.
    """

    def __init__(
        self, caption_weight: float = 2.0, contrastive_weight: float = 1.0, contrastive: str = "softmax"
    ) -> None:
        if contrastive not in ("softmax", "sigmoid"):
            raise DataError(f"expected contrastive 'softmax' or 'sigmoid', got {contrastive!r}; use one of them")
        self.caption_weight, self.contrastive_weight = caption_weight, contrastive_weight
        self.contrastive = contrastive

    def __call__(self, network: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weighted losses by name; their sum is what to minimise.

        Args:
            network: The ``EcgCoCa``, or a module with its forward.
            batch: ``ecg_values`` (B, 12, T) and ``input_ids`` (B, L).
        """
        return self.losses(network(batch["ecg_values"], batch["input_ids"]), getattr(network, "pad_id", 0))

    def losses(self, out: Mapping[str, Tensor], pad_id: int = 0) -> dict[str, Tensor]:
        """Compute the losses from ``EcgCoCa.forward``'s outputs; labels equal to ``pad_id`` do not count.

        Raises:
            DataError: There is a caption loss but no decoder.
        """
        rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        ecg, text, scale = out["ecg_features"].float(), out["text_features"].float(), out["logit_scale"].float()
        ranks = {"rank": rank, "world_size": world}
        found: dict[str, Tensor] = {}
        softmax = self.contrastive == "softmax"
        if self.caption_weight:
            if "logits" not in out:
                raise DataError(
                    "expected a network with a decoder for the caption loss, got none; set caption_weight=0"
                )
            found = CoCaLoss(
                caption_loss_weight=self.caption_weight,
                clip_loss_weight=self.contrastive_weight if softmax else 0,
                pad_id=pad_id,
                local_loss=True,
                gather_with_grad=True,
                **ranks,
            )(ecg, text, out["logits"], out["labels"], scale, output_dict=True)
            found["caption_loss"] = found["caption_loss"] * _share_of_tokens(out["labels"] != pad_id, world)
            if not softmax:
                found.pop("contrastive_loss")
        elif softmax:
            loss = ClipLoss(local_loss=True, gather_with_grad=True, **ranks)
            found["contrastive_loss"] = self.contrastive_weight * loss(ecg, text, scale)
        if not softmax:
            sigmoid = SigLipLoss(dist_impl="gather", **ranks)
            found["contrastive_loss"] = self.contrastive_weight * sigmoid(ecg, text, scale, out["logit_bias"].float())
        return found


def _share_of_tokens(counted: Tensor, world: int) -> Tensor | float:
    """Return this process's tokens over the mean of all processes, which weights local means into the global one."""
    if world == 1:
        return 1.0
    total = counted.sum().to(torch.float32)
    own = total.clone()
    dist.all_reduce(total)
    return own * world / total


class MaskedObjective:
    """The reconstruction loss of an ``EcgMaskedAutoencoder`` on one batch."""

    def __call__(self, network: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``reconstruction_loss`` of ``batch["ecg_values"]`` (B, 12, T)."""
        return {"reconstruction_loss": network(batch["ecg_values"])["loss"]}
