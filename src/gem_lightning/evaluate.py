"""Score a model: ``python -m gem_lightning.evaluate model=FOLDER benchmark=simulator out=FOLDER``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gem_lightning.config.main import main_with_errors
from gem_lightning.errors import GemError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from gem_lightning.evaluation.base import Result

logger = logging.getLogger(__name__)


def evaluate(cfg: DictConfig) -> None:
    """Answer every question of the benchmark; write each prediction as it is made, then the report.

    Raises:
        GemError: The model or the benchmark's files cannot be used.
    """
    from hydra.utils import instantiate
    from tqdm import tqdm

    benchmark = instantiate(cfg.benchmark, _convert_="all")
    # an encoder answers no questions: its benchmark knows how to load it
    predictors = [benchmark.load(str(cfg.weights), cfg.name)] if hasattr(benchmark, "load") else load_predictors(cfg)
    with tqdm(unit="answer") as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.n = done
            bar.refresh()

        if len(predictors) > 1:
            from gem_lightning.evaluation.contrast import contrast

            result: Result = contrast(benchmark, predictors, cfg.out, progress)
        else:
            result = benchmark(predictors[0], cfg.out, progress)
    add_metrics(cfg, result)
    page = result.save(cfg.out)
    _show(result.report.tables[0])
    logger.info("report: %s", page)


def add_metrics(cfg: DictConfig, result: Result) -> None:
    """Score the answers by the metrics of ``metrics=``.

    Raises:
        GemError: Several models were compared, so that there are several files of answers.
    """
    if not cfg.metrics:
        return
    from hydra.utils import instantiate

    from gem_lightning.evaluation.metrics import score_answers

    if cfg.against:
        raise GemError("expected metrics= for one model, got `against` too; leave one of them out")
    score_answers(result, instantiate(cfg.metrics, _convert_="all"), cfg.out)


def load_predictors(cfg: DictConfig) -> list[Any]:
    """The model under test, and what it is compared with."""
    from hydra.utils import instantiate

    from gem_lightning.evaluation.predictors import as_predictor
    from gem_lightning.revision import VerifyOptions

    path = str(cfg.weights)
    if path == "instrument":
        from gem_lightning.evaluation.reasoning.instrument import Instrument

        return [Instrument()]
    verify = VerifyOptions(cfg.verify, cfg.tries, cfg.on_fail, cfg.complete)
    if cfg.endpoint.base_url:
        return [_held(_endpoint(cfg, path), verify)]
    if path.endswith((".jsonl", ".json", ".parquet")) or _holds_answers(Path(path)):
        if cfg.against:
            raise GemError("expected a model folder for `against`, got a file of predictions; leave `against` out")
        return [_held(as_predictor(path, cfg.name), verify)]
    from gem_lightning.evaluation.predictors import GemPredictor
    from gem_lightning.models import Gem

    gem = Gem.from_pretrained(path, device=cfg.device)
    options = {"renderer": instantiate(cfg.render), "max_new_tokens": cfg.max_new_tokens, "batch_size": cfg.batch_size}
    predictors: list[Any] = [
        GemPredictor(gem.model, gem.processor, name=cfg.name or Path(path).name, options=verify, **options)
    ]
    for name in cfg.against:
        if name == "untrained":
            blank = type(gem.model)(gem.model.config).eval().to(gem.model.device)
            predictors.append(GemPredictor(blank, gem.processor, name="untrained", **options))
        elif name == "commonest":
            predictors.append(_commonest(cfg.samples if isinstance(cfg.samples, str) else instantiate(cfg.samples)))
        else:
            raise GemError(f"expected `against` to list untrained or commonest, got {name!r}")
    return predictors


def _held(predictor: Any, verify: Any) -> Any:
    """A predictor whose texts are written elsewhere, revised afterwards where that is asked for."""
    from gem_lightning.evaluation.predictors import RevisedPredictor

    return RevisedPredictor(predictor, verify) if verify.active else predictor


def _endpoint(cfg: DictConfig, model: str) -> Any:
    """A model behind an OpenAI-compatible endpoint."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    from gem_lightning.evaluation.predictors import ApiPredictor
    from gem_lightning.llm.client import ChatClient

    options: Any = OmegaConf.to_container(cfg.endpoint, resolve=True)
    own = {name: options.pop(name) for name in ("tools", "images")}
    return ApiPredictor(ChatClient(model, **options), instantiate(cfg.render), name=cfg.name, **own)


def _holds_answers(folder: Path) -> bool:
    """Return whether a folder holds files of answers, such as one per GPU, and no model."""
    is_model = any((folder / name).exists() for name in ("config.json", "adapter_config.json", "mm_projector.bin"))
    return folder.is_dir() and not is_model and any(folder.glob("*.jsonl"))


def _commonest(source: Any) -> Any:
    from gem_lightning.data import open_samples
    from gem_lightning.evaluation.contrast import CommonestAnswer

    if source is None:
        raise GemError("expected `samples` for the commonest answer, got null; name the training file or cohort")
    if hasattr(source, "prepare"):
        source.prepare()
    samples = open_samples(source)
    return CommonestAnswer([samples[i].answer for i in range(min(len(samples), 2000))])


def _show(table: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table(title=table.title, caption=table.note, caption_justify="left")
    for i, name in enumerate(table.header):
        shown.add_column(name, justify="right" if i else "left")
    for row in table.rows:
        shown.add_row(*row)
    Console().print(shown)


def main() -> None:
    """Entry point."""
    main_with_errors("evaluate", evaluate, aliases={"model": "weights"})


if __name__ == "__main__":
    main()
