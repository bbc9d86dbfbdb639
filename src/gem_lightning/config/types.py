"""Type checks of config values against their targets' signatures, which are the schema."""

from __future__ import annotations

import collections.abc
import dataclasses
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gem_lightning.errors import GemError

_NAMES = {int: "int", float: "float", bool: "bool", str: "str", NoneType: "null"}
_UNKNOWN = object()  # value of an interpolation to nowhere, which is an error only where it is used
_POINTER = re.compile(r"\$\{(\w[\w.\-]*)\}")  # a relative one is reported by its own key


def check_types(cfg: DictConfig) -> None:
    """Refuse values of another type than the parameter that they are for.

    Args:
        cfg: Complete; every mapping with ``_target_`` is compared with that target's annotations.

    Raises:
        GemError: All such values, by the key to change.
    """
    wrong = [f"{key} to be {describe(hint)}, got {_shown(value)}" for key, hint, value in wrong_types(cfg)]
    if wrong:
        raise GemError(f"expected {'; '.join(wrong)}")


def wrong_types(cfg: DictConfig) -> Iterator[tuple[str, Any, Any]]:
    """Yield key, annotation and value of every misfit; an interpolated value is reported by the key it points to."""
    for path, node in _targets(cfg, ""):
        hints = signature(node["_target_"])
        for name in node:
            value = _value(node, name)
            if name in hints and not fits(value, hints[name]):
                yield source(cfg, f"{path}{name}"), hints[name], value


def fits(value: Any, hint: Any) -> bool:
    """Return whether a plain value may be passed where ``hint`` is annotated; in doubt it may."""
    if hint is Any or value is _UNKNOWN:
        return True
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    kind = NoneType if hint is None else origin or hint
    if not isinstance(kind, type) or kind is object:
        return True
    if OmegaConf.is_dict(value):
        return "_target_" in value or issubclass(dict, kind)
    if OmegaConf.is_list(value):
        return _holds(value, kind, inner)
    if isinstance(value, bool) or value is None:
        return kind is type(value)
    if isinstance(value, (int, float)):
        return kind in (float, type(value)) or not _is_plain(kind)
    return kind is str or kind in (Path, os.PathLike) or not _is_plain(kind)


def describe(hint: Any) -> str:
    """Describe an annotation in terms of YAML."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        choices = dict.fromkeys(str(choice) for one in inner if get_origin(one) is Literal for choice in get_args(one))
        kinds = [one for one in inner if get_origin(one) is not Literal and (one is not int or float not in inner)]
        kinds.sort(key=lambda one: one is NoneType)
        return " or ".join(dict.fromkeys([*([", ".join(choices)] if choices else []), *map(describe, kinds)]))
    if origin is Literal:
        return ", ".join(map(str, inner))
    kind = origin or hint
    if kind in _NAMES:
        return _NAMES[kind]
    if isinstance(kind, type) and issubclass(dict, kind) and not issubclass(list, kind):
        return "mapping"
    if isinstance(kind, type) and (issubclass(list, kind) or kind is tuple):
        return f"list of {len(inner)}" if kind is tuple and inner and inner[-1] is not Ellipsis else "list"
    return "path" if kind in (Path, os.PathLike) else getattr(kind, "__name__", str(kind))


def signature(target: str) -> dict[str, Any]:
    """Return parameter to annotation of a ``_target_``; empty where they cannot be resolved.

    Raises:
        GemError: The target cannot be imported.
    """
    from hydra.utils import get_object

    try:
        found = get_object(target)
    except Exception as error:  # importing may fail in any way
        raise GemError(f"expected _target_ to name something that can be imported, got {target}: {error}") from error
    plain_class = isinstance(found, type) and not dataclasses.is_dataclass(found)
    try:
        return get_type_hints(found.__init__ if plain_class else found)  # type: ignore[misc]
    except Exception:  # names that only a type checker knows
        return {}


def _holds(values: Any, kind: type, inner: tuple[Any, ...]) -> bool:
    if not (issubclass(list, kind) or kind in (tuple, set)):
        return False
    if kind is tuple and inner and inner[-1] is not Ellipsis:
        return len(values) == len(inner) and all(map(fits, values, inner))
    return not inner or all(fits(value, inner[0]) for value in values)


def _is_plain(kind: type) -> bool:
    """Return whether only YAML's own values are of this kind; elsewhere a string may name an object."""
    return kind in (int, float, bool, str, NoneType, tuple) or (
        kind is not collections.abc.Hashable and (issubclass(list, kind) or issubclass(dict, kind))
    )


def _targets(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield every mapping below a node that names a target, with its path."""
    if OmegaConf.is_dict(node):
        if isinstance(node.get("_target_"), str):
            yield path, node
        for name in node:
            if not OmegaConf.is_interpolation(node, name):  # a target is checked where it is defined
                yield from _targets(_value(node, name), f"{path}{name}.")
    elif OmegaConf.is_list(node):
        for number, one in enumerate(node):
            yield from _targets(one, f"{path}{number}.")


def _value(node: Any, name: str) -> Any:
    try:
        return node[name]
    except OmegaConfBaseException:
        return _UNKNOWN


def source(cfg: DictConfig, key: str) -> str:
    """Return the dotted key that a value is written at; a plain ``${...}`` is followed."""
    while True:
        parent, _, name = key.rpartition(".")
        raw = OmegaConf.to_container(OmegaConf.select(cfg, parent) if parent else cfg, resolve=False)
        value = raw[int(name) if isinstance(raw, list) else name]  # type: ignore[index, call-overload]
        found = _POINTER.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            return key
        key = found[1]


def _shown(value: Any) -> str:
    return repr(OmegaConf.to_container(value) if OmegaConf.is_config(value) else value)
