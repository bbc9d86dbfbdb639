"""Networks and processors from plain keyword arguments, as the Hydra configs name them."""

from __future__ import annotations

import inspect
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerFast

from gem_lightning.errors import DataError
from gem_lightning.models.chat.formats import TEMPLATE
from gem_lightning.models.compat import (
    LLM_LAYOUT,
    PARTS,
    ecg_config_of,
    find_folder,
    has_vision,
    load_gem,
    load_processor,
    load_tensors,
    open_folder,
    parts_of,
    read_ecg_tower,
    read_state_dict,
    read_vision_tower,
    translate,
)
from gem_lightning.models.compute import Kernels, as_dtype, check_compute, compile_layers, recompute
from gem_lightning.models.configuration_gem import EcgConfig, GemConfig, register_language_model
from gem_lightning.models.encoder.outside import build_ecg_tower, outside_config
from gem_lightning.models.language import check_language_model
from gem_lightning.models.lora import add_lora
from gem_lightning.models.loss import check_loss
from gem_lightning.models.modeling_gem import GemForConditionalGeneration
from gem_lightning.models.processing_gem import GemProcessor
from gem_lightning.models.sharding import Sharding

logger = logging.getLogger(__name__)

# fields of GemConfig that may differ from a checkpoint's: they choose among tokens, not among weights
CHANGEABLE = ("image_merge", "image_grid_pinpoints", "image_max_tiles", "vision_feature_layer", "loss_chunk_mib")
Source = str | os.PathLike | Mapping[str, Any] | None
EcgSource = Source | Callable[..., torch.nn.Module]


def build_gem(
    llm: Source = None,
    ecg: EcgSource = None,
    vision: Source = None,
    checkpoint: str | os.PathLike | None = None,
    ecg_weights: str | os.PathLike | None = None,
    lora: Mapping[str, Any] | None = None,
    quantization: Mapping[str, Any] | str | None = None,
    dtype: str | torch.dtype = "float32",
    gradient_checkpointing: bool | int | str = False,
    kernels: Kernels | None = None,
    shard: Sharding | None = None,
    **switches: Any,
) -> Any:
    """Build a network to train: from a checkpoint, from pretrained parts, or from scratch.

    Args:
        llm: Folder or hub id of a causal language model, or the fields of its config (``model_type`` and sizes) for
            one from scratch.
        ecg: Checkpoint of an ECG tower (``cpt_wfep_epoch_20.pt`` or a folder of ours), or the fields of
            :class:`EcgConfig` for one from scratch; a mapping may name a ``checkpoint`` along with its fields; ``none``
            omits the tower. Or another encoder's class, see :mod:`gem_lightning.models.encoder.outside`.
        vision: Folder or hub id of a CLIP or SigLIP vision tower, or the fields of its config, or ``none``.
        checkpoint: A whole model (ours, published GEM, PULSE, LLaVA) in place of the parts; ``ecg`` and ``vision``
            then only name towers that it lacks.
        ecg_weights: File of weights that an encoder given as a class, or the ``encoder`` inside it, starts from.
        lora: Fields of peft's ``LoraConfig``; None trains the weights themselves.
        quantization: ``nf4``, ``int8`` or the fields of ``BitsAndBytesConfig``; needs ``checkpoint``.
        dtype: Of the weights, such as ``bfloat16``.
        gradient_checkpointing: Recompute activations in the backward pass, see :func:`~.compute.recompute`.
        kernels: Implementations of attention and loss, and compilation; they do not change what is computed.
        shard: Shards the network over processes, see :class:`~gem_lightning.models.sharding.Sharding`.
        **switches: Further fields of :class:`GemConfig`; with a ``checkpoint`` only :data:`CHANGEABLE` ones.

    Returns:
        A ``GemForConditionalGeneration`` in training mode, or the peft wrapper of one.
    """
    dtype = as_dtype(dtype)
    kernels = kernels or Kernels()
    check_compute({"kernels": kernels})
    check_loss(kernels.loss)
    _check_together(checkpoint, lora, quantization, shard, ecg_weights)
    switches = _known_switches(switches)
    if checkpoint is not None:
        tower, images = named_towers({"ecg": ecg, "vision": vision, "checkpoint": checkpoint})
        model, _ = load_gem(checkpoint, tower, images, quantization, dtype, attention=kernels.attention, shard=shard)
        change_config(model.config, switches)
        model.name_or_path = str(Path(checkpoint).resolve() if Path(checkpoint).is_dir() else checkpoint)
    else:
        model = _assemble(llm, ecg, vision, dtype, kernels.attention, switches, shard, ecg_weights)
    model.config.fresh_parts = None  # randomly initialised parts are about to be trained
    model.token_loss = kernels.loss
    recompute(model, gradient_checkpointing)
    if lora is not None:
        model = add_lora(model, **lora)
    if kernels.compile:
        compile_layers(model, kernels.compile)
    return model.train()


def change_config(config: GemConfig, switches: Mapping[str, Any]) -> None:
    """Change fields of a checkpoint's config, and report what was changed.

    Args:
        config: Changed in place.
        switches: Fields of :class:`GemConfig` to new values.

    Raises:
        DataError: A field that decides the weights' shapes or names.
    """
    fixed = sorted(name for name in switches.keys() - set(CHANGEABLE) if switches[name] != getattr(config, name))
    if fixed:
        raise DataError(
            f"expected of a checkpoint to change only {', '.join(CHANGEABLE)}, got {', '.join(fixed)}, which its "
            "weights decide; leave it out, or build the network from parts"
        )
    if switches.get("image_merge") == "spatial_unpad" and not config.image_newline:
        raise DataError("expected a checkpoint with a newline embedding for image_merge=spatial_unpad, got none")
    for name in CHANGEABLE:
        if name in switches and switches[name] != getattr(config, name):
            logger.info("%s=%s in place of the checkpoint's %s", name, switches[name], getattr(config, name))
            setattr(config, name, switches[name])


def _known_switches(switches: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of GemConfig that are given; a config of transformers accepts and ignores any name."""
    given = {name: value for name, value in switches.items() if value is not None}
    unknown = sorted(given.keys() - inspect.signature(GemConfig).parameters.keys())
    if unknown:
        raise DataError(f"expected arguments of build_gem or fields of GemConfig, got {', '.join(unknown)}")
    return given


def _check_together(checkpoint: Any, lora: Any, quantization: Any, shard: Sharding | None, ecg_weights: Any) -> None:
    """Refuse arguments of :func:`build_gem` that exclude each other, before a weight is read."""
    if checkpoint is not None and ecg_weights is not None:
        raise DataError("expected ecg_weights without a checkpoint, which holds its encoder's own; leave one out")
    if quantization is not None and checkpoint is None:
        raise DataError("expected a checkpoint to quantise, got parts; save the model first and name its folder")
    if lora is not None and shard is not None:
        raise DataError("expected no adapters with sharding, got lora; use strategy=ddp, or omit lora")


def build_processor(tokenizer: str | os.PathLike | Any, net: Any = None, **settings: Any) -> GemProcessor:
    """Build the processor of a network that :func:`build_gem` makes.

    Args:
        tokenizer: Folder, hub id, or the tokenizer itself; the folder of a whole model provides its own processor.
        net: The arguments of :func:`build_gem` (a mapping, or a partial of it), from which the sizes are read; with a
            ``checkpoint``, its own tokenizer is taken.
        **settings: Further arguments of :class:`GemProcessor`. None is the checkpoint's own value; without a checkpoint
            ``chat=None`` means the tokenizer's own template where it has one, else ``llava_v1``.
    """
    arguments = dict(getattr(net, "keywords", net) or {})
    settings = {name: value for name, value in settings.items() if value is not None}
    if arguments.get("checkpoint"):
        ecg, vision = named_towers(arguments)
        switches = switches_of(arguments)
        names = ("image_merge", "image_grid_pinpoints", "image_max_tiles")
        tiles = {name: switches[name] for name in names if name in switches}
        own = load_processor(arguments["checkpoint"], vision, ecg)
        for name in ("chat", "contract", "image_mode"):
            value = getattr(own.image, name) if name == "image_mode" else getattr(own, name)
            if settings.get(name, value) != value:
                logger.info("processor.%s=%s in place of the checkpoint's %s", name, settings[name], value)
        return load_processor(arguments["checkpoint"], vision, ecg, **tiles | settings)
    if isinstance(tokenizer, (str, os.PathLike)):
        if (Path(tokenizer) / "processor_config.json").is_file():
            return load_processor(tokenizer, **settings)
        tokenizer = _fetched(AutoTokenizer, tokenizer)
    settings.setdefault("chat", TEMPLATE if getattr(tokenizer, "chat_template", None) else "llava_v1")
    config = make_config(arguments.get("llm"), arguments.get("ecg"), arguments.get("vision"), switches_of(arguments))
    return GemProcessor.from_config(tokenizer, config, **settings)


def make_config(llm: Source, ecg: EcgSource, vision: Source, switches: Mapping[str, Any]) -> GemConfig:
    """Build the config of a network from the descriptions of its parts, without any weights."""
    return GemConfig(
        text_config=_part_config(llm, "llama"),
        ecg_config=_ecg_config(ecg),
        vision_config=_part_config(vision, "clip_vision_model"),
        **switches,
    )


def named_towers(arguments: Mapping[str, Any]) -> list[str | os.PathLike | None]:
    """Return the files of the ECG and the image tower among :func:`build_gem`'s arguments; None if absent.

    A checkpoint's own image tower comes before the one that is named (its ECG tower does when it is loaded).
    """
    parts = [arguments.get("ecg"), arguments.get("vision")]
    ecg, vision = [part if isinstance(part, (str, os.PathLike)) and part != "none" else None for part in parts]
    checkpoint = arguments.get("checkpoint")
    if checkpoint is not None and vision is not None and has_vision(checkpoint):
        if Path(vision).exists():
            logger.info("the image tower of %s is used, not model.net.vision=%s", checkpoint, vision)
        vision = None
    return [ecg, vision]


def switches_of(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of :class:`GemConfig` among :func:`build_gem`'s arguments."""
    own = [name for name in inspect.signature(build_gem).parameters if name != "switches"]
    return {
        name: value
        for name, value in arguments.items()
        if value is not None and name not in own and not name.startswith("_")
    }


def _part_config(source: Source, model_type: str) -> PreTrainedConfig | str | dict[str, Any] | None:
    if source is None:
        return "published"
    if source == "none":
        return None
    if isinstance(source, Mapping):
        return {"model_type": model_type} | dict(source)
    stored = Path(source, "config.json")
    if stored.is_file():
        register_language_model(str(json.loads(stored.read_text(encoding="utf-8")).get("model_type")))
    config = _fetched(AutoConfig, source)
    return getattr(config, "vision_config", config) if "vision" in model_type else config


def _fetched(kind: Any, source: str | os.PathLike) -> Any:
    """Load a folder or hub id through transformers.

    Raises:
        DataError: There is no such folder, and the hub has no such model or cannot be reached.
    """
    try:
        return kind.from_pretrained(source)
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"expected a folder or a hub id that can be reached, got {str(source)!r} ({reason}); name a folder here, "
            "such as model.net.llm=FOLDER, or download it first"
        ) from error


def _ecg_config(source: EcgSource) -> EcgConfig | dict[str, Any] | str | None:
    if source is None:
        return "published"
    if source == "none":
        return None
    if isinstance(source, Mapping):
        return {name: value for name, value in source.items() if name != "checkpoint"}
    if callable(source) or isinstance(source, torch.nn.Module):
        return outside_config(source)
    return ecg_config_of(source)


def _assemble(
    llm: Source,
    ecg: EcgSource,
    vision: Source,
    dtype: torch.dtype,
    attention: str,
    switches: Mapping[str, Any],
    shard: Sharding | None,
    ecg_weights: str | os.PathLike | None = None,
) -> GemForConditionalGeneration:
    """Build a network of pretrained and random parts; a loaded part is never initialised first."""
    config = make_config(llm, ecg, vision, switches)
    config.dtype = dtype
    tower: Any = ecg.get("checkpoint") if isinstance(ecg, Mapping) else ecg
    outside = config.ecg_config is not None and config.ecg_config.encoder is not None
    tower = None if tower == "none" or outside else tower
    from_files = any(isinstance(source, (str, os.PathLike)) and source != "none" for source in (llm, tower, vision))
    if ecg_weights is not None and not outside:
        raise DataError(
            f"expected ecg_weights for an encoder given as a class, got ecg={ecg!r}; name its weights there"
        )
    if not from_files and shard is None and ecg_weights is None:
        return GemForConditionalGeneration._from_config(config, dtype=dtype, attn_implementation=attention)
    config._attn_implementation = attention
    tensors: dict[str, Any] = {}
    if tower is not None:
        tensors |= {PARTS["ecg_tower"] + name: value for name, value in read_ecg_tower(tower).items()}
    if isinstance(vision, (str, os.PathLike)) and vision != "none":
        tensors |= read_vision_tower(find_folder(vision))
    if isinstance(llm, (str, os.PathLike)):
        check_language_model(config.text_config)
        tensors |= translate(open_folder(find_folder(llm)), LLM_LAYOUT)
    if outside:  # with the values of its own constructor
        own = _encoder_state(config.ecg_config, ecg_weights)
        tensors |= {PARTS["ecg_tower"] + name: value for name, value in own.items()}
    config.fresh_parts = sorted(PARTS.keys() - parts_of(tensors))
    return load_tensors(config, tensors, dtype, attention=attention, shard=shard)


def _encoder_state(config: EcgConfig, weights: str | os.PathLike | None) -> dict[str, Any]:
    """Return an encoder's initial state: its constructor's, with ``weights`` in their places.

    Raises:
        DataError: The file holds what the encoder does not have.
    """
    state = build_ecg_tower(config).state_dict()
    if weights is None:
        return state
    given = read_state_dict(weights)
    # of the whole encoder, or of the one part that it wraps
    prefix = next((p for p in ("", "encoder.") if all(p + name in state for name in given)), None)
    if prefix is None or any(value.shape != state[prefix + name].shape for name, value in given.items()):
        raise DataError(f"expected weights of the ECG encoder in {weights}, got names or shapes of another")
    logger.info("%d of %d tensors of the ECG encoder come from %s", len(given), len(state), weights)
    return state | {prefix + name: value for name, value in given.items()}


PACKAGED = Path(__file__).parent / "tokenizers"
_SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Load the packaged tokenizer of 640 tokens.

    :func:`learn_tokenizer` learned it from two cohorts, ``SimulatedCohort(n=640, seed=5)`` with ``style`` "brief" and
    "interpretation": each answer alone and as ``USER: question ASSISTANT: answer``, and as often the opening sentences
    of the chat formats ``llava_v1`` and ``vicuna_v1``. Where composed sentences change, learn it again: a tokenizer
    that spells new words out makes the quickstart's sequences, and with them its training, longer.
    """
    return PreTrainedTokenizerFast(tokenizer_file=str(PACKAGED / "ecg_bpe.json"), **_SPECIAL)


def small_tokenizer() -> PreTrainedTokenizerFast:
    """Load the packaged tokenizer of 1,024 tokens, which ``experiment=gem_small`` uses.

    :func:`learn_tokenizer` learned it, ``spaced``, from all turns of ``ConversationCohort(records, n=600, seed=5)`` of
    simulated and of recombined records and from the wordings of ``conf/data/conversations.yaml``.
    """
    return PreTrainedTokenizerFast(tokenizer_file=str(PACKAGED / "ecg_bpe_1k.json"), **_SPECIAL)


# 640 pieces: the vocabulary of composed texts, for networks that train in minutes
def learn_tokenizer(texts: Iterable[str], vocab_size: int = 640, spaced: bool = False) -> PreTrainedTokenizerFast:
    """Learn a byte-level BPE tokenizer with single digits, so that a network can learn numbers digit by digit.

    Args:
        texts: To learn the merges from.
        vocab_size: Tokens, at least 256 bytes and the three special ones.
        spaced: A number's first digit takes the space before it along: one token less for every number.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(" ?[0-9]" if spaced else "[0-9]"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(_SPECIAL.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **_SPECIAL)
