"""Exports, verified before they are put into place."""
