"""ECG-Reasoning-Benchmark: chains of questions from criteria to a diagnosis, for any model."""
