"""Parts of the measurement: waves, axes, rhythm."""
