"""A model behind HTTP: an upload page for people, JSON for programs."""
