"""Instruction samples and their file formats."""
