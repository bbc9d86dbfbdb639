"""Serve a model as a page and an API: ``python -m gem_lightning.serve`` or ``... model=FOLDER``."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from gem_lightning.config.main import main_with_errors
from gem_lightning.errors import MissingExtraError

if TYPE_CHECKING:
    from omegaconf import DictConfig

#: Longest time that a thread keeps the interpreter, s. Python's 5 ms let the model, which gives it up at every
#: operation, wait for threads that measure: 32 clients cost 150 ms of CPU an answer, so 120 ms.
SWITCH_S = 0.0005


def serve(cfg: DictConfig) -> None:
    """Load the model once and answer until interrupted."""
    import torch
    from hydra.utils import instantiate

    from gem_lightning.models import Gem  # first: without torch the extra alone would not help

    try:
        import uvicorn

        from gem_lightning.serving.api import build_app
        from gem_lightning.serving.limits import Limits
        from gem_lightning.serving.security import read_tokens
    except ImportError as error:
        raise MissingExtraError(error.name or "uvicorn", "serve") from error
    from gem_lightning.revision.options import VerifyOptions

    # two threads of one operation that share a core with a worker wait for each other: 4 clients got half the answers
    torch.set_num_threads(max(1, torch.get_num_threads() - cfg.workers))
    tokens = read_tokens(cfg.tokens_file)
    gem = Gem.from_pretrained(cfg.weights, renderer=instantiate(cfg.render), device=cfg.device)
    app = build_app(
        gem,
        name=str(cfg.weights),
        options=VerifyOptions(cfg.verify, cfg.tries, cfg.on_fail, cfg.complete),
        limits=Limits(cfg.max_upload_mb, cfg.max_requests, cfg.requests_per_minute),
        tokens=tokens,
        trusted_hosts=list(cfg.trusted_hosts),
        max_new_tokens=cfg.max_new_tokens,
        batch_size=cfg.batch_size,
        workers=cfg.workers,
    )
    app.state.service.warm_up()
    sys.setswitchinterval(SWITCH_S)
    _log_lines("gem_lightning.serving")
    uvicorn.run(app, host=cfg.host, port=cfg.port, access_log=False)  # ours holds no address and no query


def _log_lines(name: str) -> None:
    """Write a logger's messages to stdout as they are: they are JSON already."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    own = logging.getLogger(name)
    own.handlers, own.propagate = [handler], False
    own.setLevel(logging.INFO)


def main() -> None:
    """Entry point."""
    main_with_errors("serve", serve, aliases={"model": "weights"})


if __name__ == "__main__":
    main()
