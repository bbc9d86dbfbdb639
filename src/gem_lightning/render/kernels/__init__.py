"""Inner loops of the renderer, with numba and without."""
