"""Instruction data: pipeline, teacher LLMs, quality gate, validation."""
