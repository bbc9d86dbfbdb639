"""Parts of the delineation: filters, beats, QRS complexes, P and T waves."""
