"""Instruction data: pipeline, teachers, quality gate, validation."""
