"""Simulated ECGs with known truth."""
