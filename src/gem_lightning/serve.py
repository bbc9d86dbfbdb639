"""Serve a model as a page and an API: ``python -m gem_lightning.serve model=FOLDER``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gem_lightning.config.main import main_with_errors
from gem_lightning.errors import MissingExtraError

if TYPE_CHECKING:
    from omegaconf import DictConfig


def serve(cfg: DictConfig) -> None:
    """Load the model once and answer until interrupted."""
    from hydra.utils import instantiate

    try:
        import uvicorn

        from gem_lightning.serving.api import build_app
    except ImportError as error:
        raise MissingExtraError(error.name or "uvicorn", "serve") from error
    from gem_lightning.models import Gem
    from gem_lightning.revision.options import VerifyOptions

    gem = Gem.from_pretrained(cfg.weights, renderer=instantiate(cfg.render), device=cfg.device)
    options = VerifyOptions(cfg.verify, cfg.tries, cfg.on_fail, cfg.complete)
    app = build_app(gem, name=str(cfg.weights), max_upload_mb=cfg.max_upload_mb, options=options)
    uvicorn.run(app, host=cfg.host, port=cfg.port)


def main() -> None:
    """Entry point."""
    main_with_errors("serve", serve, aliases={"model": "weights"})


if __name__ == "__main__":
    main()
