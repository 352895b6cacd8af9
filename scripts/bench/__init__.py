"""What scripts/bench_layers.py measures, by section, and how it is timed and shown."""
