"""What benchmarks/layers.py measures, by section, and how it is timed and shown."""
