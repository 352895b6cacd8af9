"""Gates of a model's attention layers, watched while it runs, and their statistics."""
