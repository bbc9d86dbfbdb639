"""Answers of a model: batches, conversations, whole cohorts."""
