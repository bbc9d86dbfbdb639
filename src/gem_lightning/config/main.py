"""Hydra main wrapper of every entry point: user errors end in one message and an exit code."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

import hydra
import hydra.version
from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gem_lightning.config.threads import set_thread_defaults
from gem_lightning.errors import GemError, explain_import
from gem_lightning.jobs.files import FULL

USAGE_ERROR = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells report it
TRACEBACKS = "GEM_LIGHTNING_TRACEBACK"


Aliases = Mapping[str, str | tuple[str, str]]


def main_with_errors(config_name: str, task: Callable[[Any], Any], aliases: Aliases | None = None) -> None:
    """Run ``task(cfg)`` under Hydra with the packaged configs.

    A user's mistake ends in one message on stderr and exit code 2; a bug keeps its traceback. The environment
    variable GEM_LIGHTNING_TRACEBACK=1 shows the traceback of both.

    Args:
        config_name: Top-level config of ``gem_lightning.conf``, without suffix.
        task: Receives the composed config.
        aliases: See :func:`own_keys`.
    """
    if sys.argv[1:] in (["--help"], ["-h"]):
        sys.stdout.write(usage(config_name))
        return
    set_thread_defaults()
    raw = os.environ.get(TRACEBACKS) or os.environ.get("HYDRA_FULL_ERROR") == "1"
    try:
        with _errors_of_hydra_raised():
            _run(config_name, task, aliases or {})
    except KeyboardInterrupt:
        if raw:
            raise
        _stop("interrupted; finished work is kept", INTERRUPTED)
    except Exception as error:
        message = None if raw else explain(error, config_name)
        if message is None:
            raise
        _stop(message, USAGE_ERROR)


@contextmanager
def _errors_of_hydra_raised() -> Iterator[None]:
    """Hydra prints an error itself and exits unless HYDRA_FULL_ERROR is 1."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


def _run(config_name: str, task: Callable[[Any], Any], aliases: Aliases) -> None:
    """Run ``task`` as ``hydra.main`` does, with the overrides of :func:`own_keys`.

    ``hydra.main`` itself reads ``sys.argv`` only; it offers no other way to pass overrides.
    """
    hydra.version.setbase("1.3")
    parser = get_args_parser()
    arguments = parser.parse_args()
    arguments.overrides = own_keys(arguments.overrides, aliases)
    _run_hydra(arguments, parser, task, "pkg://gem_lightning.conf", config_name)


def own_keys(arguments: Sequence[str], aliases: Aliases) -> list[str]:
    """Translate overrides whose key is also the name of a config group.

    Args:
        arguments: As typed. Hydra would look for ``model=FOLDER`` among the files of ``conf/model``.
        aliases: Key as typed → key in the config; or → (choice, key): a value that is a path selects the choice of
            the group and sets the key, any other value stays the choice itself.
    """
    found = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        name = key.lstrip("+")
        target = aliases.get(name)
        if isinstance(target, str):
            found.append(f"{key.removesuffix(name)}{target}={value}")
        elif target is not None and (os.sep in value or os.path.exists(value)):
            found += [f"{name}={target[0]}", f"{target[1]}={value}"]
        else:
            found.append(argument)
    return found


def usage(config_name: str) -> str:
    """Return the entry point's config file with its comments, and the groups to choose from."""
    conf = files("gem_lightning.conf")
    groups = sorted((f for f in conf.iterdir() if f.is_dir() and f.name[0] != "_"), key=lambda f: f.name)
    choices = [f"  {group.name}={'|'.join(options(group.name))}" for group in groups]
    body = conf.joinpath(f"{config_name}.yaml").read_text(encoding="utf-8")
    lines = ["", "Groups:", *choices, "", "The composed config: --cfg job. Hydra's own options: --hydra-help.", ""]
    return body + "\n".join(lines)


def options(group: str) -> list[str]:
    """List the configs of a group, such as ``model/net``, sorted."""
    folder = files("gem_lightning.conf").joinpath(group)
    return sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".yaml")) if folder.is_dir() else []


def explain(error: BaseException, config_name: str) -> str | None:
    """Explain a user's mistake; None when the error is a bug and its traceback is needed."""
    chain = _chain(error)
    for cause in chain:
        if isinstance(cause, ModuleNotFoundError):
            cause = explain_import(cause)
        if isinstance(cause, GemError):
            return str(cause)
        if isinstance(cause, FileNotFoundError | FileExistsError | NotADirectoryError | PermissionError):
            return _file_message(cause)
        if isinstance(cause, OSError) and cause.errno in FULL:
            place = cause.filename or "the disk"
            return f"expected free space on {place}, got {cause.strerror}; make room, then rerun the command"
    for cause in chain:
        if isinstance(cause, HydraException | OmegaConfBaseException):
            text = str(cause).strip()
            if "Error in call to target" in text or "Error instantiating" in text:
                return _constructor_message(chain, text, config_name)
            return text + _suggestion(text, config_name)
        empty = [argument for argument in sys.argv[1:] if argument.endswith("=null") and "." not in argument]
        if empty and "Config group override must be a string" in str(cause):
            return f"expected a choice for {', '.join(empty)}, got null; leave a group out with ~{empty[0][:-5]}"
        if type(cause).__name__ == "MisconfigurationException":  # Lightning's, of settings that do not go together
            return str(cause)
    return None


def _file_message(error: OSError) -> str:
    """Explain why a file or folder cannot be used; errors without a file name keep their text."""
    if error.filename is None or error.strerror is None:
        return str(error)
    if isinstance(error, FileNotFoundError):
        return f"expected {error.filename}, got {error.strerror}; check the path"
    return f"expected to read or write {error.filename}, got {error.strerror}; choose another path"


def _constructor_message(chain: list[BaseException], text: str, config_name: str) -> str | None:
    """Explain a keyword or value that a constructor refuses, or a missing library; the rest is a bug."""
    where = text.splitlines()[-1].removeprefix("full_key: ")
    for cause in chain:
        if isinstance(cause, ModuleNotFoundError) and "pip install" in str(cause):  # Lightning's, of its loggers
            return f"expected the library that {where} needs, got none: {cause}"
        if isinstance(cause, TypeError) and "unexpected keyword" in str(cause):
            unknown = re.search(r"argument '(\w+)'", str(cause))
            near = _nearest(f"{where}.{unknown[1]}", _known_keys(config_name)) if unknown else ""
            return f"{cause}; full_key: {where}{near}"
        refused = type(cause) is ValueError or type(cause).__name__.startswith("StrictDataclass")  # transformers' sizes
        if refused or type(cause).__name__ == "MisconfigurationException":
            return f"expected values that go together in {where}, got: {cause}"
    return None


def _chain(error: BaseException | None) -> list[BaseException]:
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        error = error.__cause__
    return seen


def _suggestion(text: str, config_name: str) -> str:
    """Suggest existing keys near one that the command line misspells."""
    misnamed = re.search(r"Could not find '([^']+)/([^'/]+)'", text)
    if misnamed is not None:
        near = difflib.get_close_matches(misnamed[2], options(misnamed[1]), n=3)
        return f"\nDid you mean: {', '.join(f'{misnamed[1]}={name}' for name in near)}?" if near else ""
    found = re.search(r"Key '([^']+)' is not in struct|Could not override '([^']+)'", text)
    if found is None:
        return ""
    override = re.search(r"Could not override '([^']+)'", text)
    full = re.search(r"full_key: (\S+)", text)
    wrong = (override.group(1) if override else None) or (full.group(1) if full else None) or found.group(1)
    return _nearest(wrong, _known_keys(config_name))


def _nearest(wrong: str, known: Sequence[str]) -> str:
    # 0.6 is difflib's own default: one or two letters off in a short name
    near = difflib.get_close_matches(wrong, known, n=3, cutoff=0.6)
    near += [k for k in known if k.split(".")[-1] == wrong.split(".")[-1] and k not in near][:2]
    return f"\nDid you mean: {', '.join(near)}?" if near else ""


def _known_keys(config_name: str) -> list[str]:
    """List the dotted keys of the composed config without the command line's plain overrides."""
    from hydra import compose
    from hydra.core.global_hydra import GlobalHydra

    groups = [a for a in sys.argv[1:] if options(re.split(r"[@=]", a.lstrip("+~"))[0])]
    try:
        GlobalHydra.instance().clear()
        with hydra.initialize_config_module("gem_lightning.conf", version_base="1.3"):
            cfg = compose(config_name, overrides=groups)
    except Exception:  # a second fault must not hide the first: without keys there is no suggestion
        return []
    return list(_dotted(OmegaConf.to_container(cfg, resolve=False)))


def _dotted(node: Any, prefix: str = "") -> list[str]:
    if not isinstance(node, dict):
        return []
    keys: list[str] = []
    for key, value in node.items():
        keys += [f"{prefix}{key}", *_dotted(value, f"{prefix}{key}.")]
    return keys


def _stop(message: str, code: int) -> None:
    sys.stderr.write(f"gem-lightning: {message.rstrip()}\n(full traceback: {TRACEBACKS}=1)\n")
    raise SystemExit(code)
