"""Command lines of comparisons that are short enough for tests."""

BASE = ["compare", "--base", "yolov8n.yaml", "--epochs", "1", "--imgsz", "64", "--batch", "8", "--device", "cpu"]

SETTINGS = ["workers=0", "plots=False", "conf=0.00001"]


def arguments(data, output, *more, layers="SimAM", seeds="0,1"):
    given = ["--layers", layers, "--seeds", seeds, "--data", data, "--output", output]
    return [*BASE, *map(str, [*given, *SETTINGS, *more])]
