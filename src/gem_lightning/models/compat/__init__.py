"""Foreign checkpoints and weight layouts; the only module of this package that others import.

Names are imported on first use, because loading a checkpoint builds the networks that themselves read encoders here.
"""

import importlib
from typing import TYPE_CHECKING, Any

_HOME_OF = {
    "LLM_LAYOUT": "names",
    "PARTS": "names",
    "check_fit": "names",
    "ecg_arguments": "coca",
    "ecg_config_of": "towers",
    "find_files": "coca",
    "find_folder": "load",
    "has_vision": "load",
    "load_config": "load",
    "load_exactly": "coca",
    "load_gem": "load",
    "load_original": "original",
    "load_processor": "load",
    "load_tensors": "assemble",
    "open_folder": "tensor_files",
    "parts_of": "names",
    "quantisation": "assemble",
    "read_config": "coca",
    "read_ecg_tower": "towers",
    "read_state_dict": "coca",
    "read_vision_tower": "towers",
    "save_coca": "coca",
    "save_original": "write_original",
    "translate": "names",
}
__all__ = [
    "LLM_LAYOUT",
    "PARTS",
    "check_fit",
    "ecg_arguments",
    "ecg_config_of",
    "find_files",
    "find_folder",
    "has_vision",
    "load_config",
    "load_exactly",
    "load_gem",
    "load_original",
    "load_processor",
    "load_tensors",
    "open_folder",
    "parts_of",
    "quantisation",
    "read_config",
    "read_ecg_tower",
    "read_state_dict",
    "read_vision_tower",
    "save_coca",
    "save_original",
    "translate",
]

if TYPE_CHECKING:
    from gem_lightning.models.compat.assemble import load_tensors, quantisation
    from gem_lightning.models.compat.coca import (
        ecg_arguments,
        find_files,
        load_exactly,
        read_config,
        read_state_dict,
        save_coca,
    )
    from gem_lightning.models.compat.load import find_folder, has_vision, load_config, load_gem, load_processor
    from gem_lightning.models.compat.names import LLM_LAYOUT, PARTS, check_fit, parts_of, translate
    from gem_lightning.models.compat.original import load_original
    from gem_lightning.models.compat.tensor_files import open_folder
    from gem_lightning.models.compat.towers import ecg_config_of, read_ecg_tower, read_vision_tower
    from gem_lightning.models.compat.write_original import save_original


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
