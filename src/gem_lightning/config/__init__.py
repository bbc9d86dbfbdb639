"""Hydra main wrapper and config validation of the entry points."""
