"""Foreign checkpoints, in both directions."""
