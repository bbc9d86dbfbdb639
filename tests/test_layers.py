"""The promises about imports: cheap at the top, and research code below lit/ needs no Lightning or Hydra."""

import subprocess
import sys
import textwrap

import pytest


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_importing_the_package_loads_nothing_heavy():
    heavy = run(
        """
        import sys, gem_lightning
        print(*sorted({"numpy", "torch", "scipy", "transformers", "hydra", "lightning"} & set(sys.modules)))
        """
    )
    assert heavy.strip() == ""


def test_every_public_name_resolves():
    run(
        """
        import gem_lightning
        for name in gem_lightning.__all__:
            assert getattr(gem_lightning, name) is not None, name
        """
    )


@pytest.mark.parametrize(
    "layer",
    [
        "ecg",
        "features",
        "render",
        "claims",
        "composition",
        "llm",
        "sources",
        "samples",
        "generation",
        "grounding",
        "reporting",
    ],
)
def test_layers_without_torch(layer):
    run(
        f"""
        import importlib, pkgutil, sys
        sys.modules["torch"] = sys.modules["transformers"] = None
        package = importlib.import_module("gem_lightning.{layer}")
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            importlib.import_module(found.name)
        """
    )


def test_below_lit_nothing_needs_lightning_hydra_or_omegaconf():
    run(
        """
        import importlib, pkgutil, sys
        for name in ("lightning", "pytorch_lightning", "lightning_fabric", "hydra", "omegaconf"):
            sys.modules[name] = None
        for layer in (
            "ecg", "features", "render", "claims", "composition", "llm", "sources", "samples",
            "generation", "grounding", "reporting", "models", "data", "evaluation", "rl",
        ):
            package = importlib.import_module(f"gem_lightning.{layer}")
            for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
                if not found.name.endswith(".vllm_plugin"):  # lives inside vLLM
                    importlib.import_module(found.name)
            for name in getattr(package, "__all__", ()):
                getattr(package, name)
        """
    )
