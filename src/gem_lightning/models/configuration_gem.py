"""Sizes and switches of the whole network: an ECG tower, an image tower and a language model in one config."""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import AutoConfig, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from gem_lightning.errors import CheckpointError, DataError
from gem_lightning.plugins import plugins

# Beyond every known vocabulary (the largest have about 260,000 entries), so no embedding row is ever spent on them.
ECG_TOKEN_ID = 1_000_000
# beyond any vocabulary, so that no text can contain a placeholder
IMAGE_TOKEN_ID = 1_000_001
IGNORE_INDEX = -100
FORMAT_VERSION = 1
CHOICES = {"image_merge": ("flat", "spatial", "spatial_unpad"), "vision_feature_select": ("patch", "full")}

PUBLISHED_VISION: dict[str, Any] = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 768,
}


class EcgConfig(PreTrainedConfig):
    """Sizes of :class:`gem_lightning.models.encoder.transformer.EcgTransformer`; the defaults are the published ones.

    Args:
        leads: Rows of the signal.
        samples: Samples per lead.
        patch_size: Samples per token.
        width: Width of a token.
        layers: Number of blocks.
        head_width: Width of an attention head.
        mlp_ratio: Hidden width of a block's MLP over ``width``.
        output_dim: Width of the pooled embedding.
        sampling_rate: Rate that the tower was trained at, Hz.
        encoder: ``target`` and ``arguments`` of an encoder of another package, see
            :mod:`gem_lightning.models.encoder.outside`; None for ours.
        token_count: Tokens of such an encoder.
    """

    model_type = "gem_ecg"
    base_config_key = "ecg_config"
    attribute_map: ClassVar[dict[str, str]] = {"hidden_size": "width", "num_hidden_layers": "layers"}

    leads: int = 12
    samples: int = 5000
    patch_size: int = 50
    width: int = 768
    layers: int = 12
    head_width: int = 64
    mlp_ratio: float = 4.0
    output_dim: int = 512
    sampling_rate: float = 500.0
    encoder: dict | None = None
    token_count: int | None = None

    @property
    def tokens(self) -> int:
        """Tokens that one ECG becomes: its patches and the class token, or what another encoder makes of it."""
        return self.token_count or self.samples // self.patch_size + 1

    def tower_arguments(self) -> dict[str, Any]:
        """Keyword arguments of ``EcgTransformer``."""
        names = ("leads", "samples", "patch_size", "width", "layers", "head_width", "mlp_ratio", "output_dim")
        return {name: getattr(self, name) for name in names}


class GemConfig(PreTrainedConfig):
    """Configuration of :class:`gem_lightning.models.modeling_gem.GemForConditionalGeneration`.

    Args:
        ecg_config: Sizes of the ECG tower (by default the published ones); None leaves the tower out.
        vision_config: A CLIP or SigLIP vision config (by default CLIP ViT-L/14-336); None leaves the tower out.
        text_config: Config of any causal language model of transformers (by default Llama).
        ecg_token_id: Placeholder of one ECG token in ``input_ids``.
        image_token_id: Placeholder of one image token in ``input_ids``.
        projector_type: ``linear`` or ``mlpNx_gelu``: the projector that both modalities share.
        ecg_projector_type: The same, from the ECG tower's width to the shared projector's input.
        projector_width: Input width of the shared projector; None means the image tower's width, or the ECG tower's.
        vision_feature_layer: Index into the image tower's hidden states.
        vision_feature_select: ``patch`` drops the class token, ``full`` keeps every token (SigLIP has no class token).
        image_merge: How the tiles of one image become one sequence: ``flat``, ``spatial`` or ``spatial_unpad``.
        image_grid_pinpoints: (height, width) sizes that anyres may choose from, pixels. As in LLaVA the pair is
            compared with (width, height).
        image_max_tiles: N of LLaVA's ``anyres_max_N``: more tiles are scaled down to as many tokens as N have.
        image_newline: The model owns a newline embedding for ``spatial_unpad``.
        loss_chunk_mib: Memory that one chunk of logits may take while computing the loss, MiB in float32.
        fresh_parts: Parts whose weights were randomly initialised when the model was assembled and not trained since.
        original: Facts of the published folder that the weights came from, needed to write that layout.

    Raises:
        CheckpointError: The config was written by a newer major version.
        DataError: Neither tower is configured or a choice is unknown.
    """

    model_type = "gem"
    sub_configs: ClassVar[dict[str, Any]] = {
        "ecg_config": EcgConfig,
        "vision_config": AutoConfig,
        "text_config": AutoConfig,
    }

    ecg_config: Any = "published"
    vision_config: Any = "published"
    text_config: Any = "published"
    ecg_token_id: int = ECG_TOKEN_ID
    image_token_id: int = IMAGE_TOKEN_ID
    projector_type: str = "mlp2x_gelu"
    ecg_projector_type: str = "linear"
    projector_width: int | None = None
    vision_feature_layer: int = -2
    vision_feature_select: str = "patch"
    image_merge: str = "flat"
    image_grid_pinpoints: list | None = None
    image_max_tiles: int | None = None
    image_newline: bool = False
    loss_chunk_mib: int = 64
    fresh_parts: list | None = None
    original: dict | None = None
    format_version: int = FORMAT_VERSION
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        if self.format_version > FORMAT_VERSION:
            raise CheckpointError(
                f"expected a config of format {FORMAT_VERSION} or older, got format {self.format_version}; "
                "the model was saved by a newer gem-lightning: pip install -U gem-lightning"
            )
        self.ecg_config = _sub_config(self.ecg_config, EcgConfig.model_type, {})
        self.vision_config = _sub_config(self.vision_config, "clip_vision_model", PUBLISHED_VISION)
        self.text_config = _sub_config(self.text_config, "llama", {})
        if self.ecg_config is None and self.vision_config is None:
            raise DataError("expected an ecg_config or a vision_config, got None for both; configure one tower")
        if self.projector_width is None:
            self.projector_width = (self.vision_config or self.ecg_config).hidden_size
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise DataError(f"expected {name} to be one of {choices}, got {getattr(self, name)!r}")
        self.tie_word_embeddings = bool(self.tie_word_embeddings or self.text_config.tie_word_embeddings)
        self.text_config.tie_word_embeddings = self.tie_word_embeddings
        super().__post_init__(**kwargs)

    @property
    def ecg_tokens(self) -> int:
        """Tokens that one ECG becomes, 0 without an ECG tower."""
        return self.ecg_config.tokens if self.ecg_config else 0

    @property
    def patches_per_side(self) -> int:
        """Image patches along one side of a tile."""
        return self.vision_config.image_size // self.vision_config.patch_size

    @property
    def tiling(self) -> dict[str, Any]:
        """Arguments of :func:`gem_lightning.models.fusion.merge_tiles` that the config decides."""
        return {
            "merge": self.image_merge,
            "side": self.patches_per_side,
            "tile_size": self.vision_config.image_size,
            "pinpoints": self.image_grid_pinpoints,
            "max_tiles": self.image_max_tiles,
        }

    @property
    def tile_tokens(self) -> int:
        """Tokens that one image tile becomes before merging, 0 without an image tower."""
        if not self.vision_config:
            return 0
        has_class_token = "siglip" not in self.vision_config.model_type
        return self.patches_per_side**2 + int(self.vision_feature_select == "full" and has_class_token)


def _sub_config(value: Any, model_type: str, defaults: dict[str, Any]) -> Any:
    """Return a nested config as an object; None stays None (the part does not exist)."""
    if value is None or isinstance(value, PreTrainedConfig):
        return value
    fields = dict(defaults if value == "published" else value)
    model_type = fields.pop("model_type", model_type)
    if model_type == EcgConfig.model_type:
        return EcgConfig(**fields)
    register_language_model(model_type)
    if model_type not in CONFIG_MAPPING:
        raise CheckpointError(
            f"expected a model type that this transformers knows, got {model_type!r}; pip install -U transformers, or "
            "the package that brings it"
        )
    return CONFIG_MAPPING[model_type](**fields)


def register_language_model(model_type: str) -> None:
    """Import the package that brings a family of language models which transformers does not know.

    Its entry point in the group ``gem_lightning.language_models`` has the family's ``model_type`` as its name and loads
    the module that registers config and model with ``AutoConfig`` and ``AutoModel``.
    """
    if model_type not in CONFIG_MAPPING and model_type in plugins("language_models"):
        plugins("language_models")[model_type].load()
