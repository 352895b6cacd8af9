"""The trainings, each in its own process: runner.py starts worker.py on devices.py, progress.py shows them.

costs.py measures the trained models; processes.py starts Python processes.
"""
