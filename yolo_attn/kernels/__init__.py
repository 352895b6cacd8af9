"""What makes layers fast, by the layers' file names; the formulas in layers/ remain what they compute.

None of it knows of Ultralytics or of the layers. `switch` says which forms may run, `choice` which one does.
"""
