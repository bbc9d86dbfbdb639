"""Checkpoint files, retention, export and run folders."""
