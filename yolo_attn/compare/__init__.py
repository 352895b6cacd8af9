"""Comparing attention with its base: the same budget, several seeds, what it costs, and a report."""
