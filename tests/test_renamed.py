"""Configs written before the modules moved still work: every old path resolves to the same object."""

import importlib
import warnings

import pytest
from hydra.utils import get_object

from gem_lightning import __version__
from gem_lightning.renamed import GONE, MODULES


@pytest.mark.parametrize("old", MODULES)
def test_old_targets_resolve(old):
    module = importlib.import_module(MODULES[old])
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
    public = [name for name in own if not name.startswith("_")]
    assert public
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        for name in public:
            assert get_object(f"{old}.{name}") is getattr(module, name)


def test_an_old_path_warns_and_an_unknown_one_fails():
    with pytest.warns(FutureWarning, match=rf"gem_lightning\.llm\.client now and goes in {GONE}"):
        get_object("gem_lightning.grounding.client.ChatClient")
    with pytest.raises(ImportError):
        get_object("gem_lightning.grounding.nowhere.ChatClient")


def test_old_paths_go_after_one_minor_version():
    now, gone = (tuple(map(int, version.split("."))) for version in (__version__, GONE))
    assert now < gone, "empty MODULES, and with it what asks for it"
    assert (now[0], now[1] + 1) == gone[:2]
