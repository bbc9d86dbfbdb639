"""Verified generation: a model's text held to the measurements while it is written."""
