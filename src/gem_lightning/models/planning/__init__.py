"""Estimates of memory and operations."""
