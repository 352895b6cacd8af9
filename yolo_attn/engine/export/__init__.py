"""Exports, verified before they are put into place: exporter.py (`export`) writes, verify.py runs and compares."""
