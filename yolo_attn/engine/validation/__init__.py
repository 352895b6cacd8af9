"""Validators and their metrics."""
