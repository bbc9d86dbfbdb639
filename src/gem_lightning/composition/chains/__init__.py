"""Diagnostic reasoning chains: criterion by criterion to a diagnosis, in the form of ECG-Reasoning-Benchmark."""
