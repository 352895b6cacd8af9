"""Trainers, their run folders and processes."""
