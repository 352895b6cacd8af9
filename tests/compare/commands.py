"""Command lines of comparisons that are short enough for tests."""

BASE = ["compare", "--base", "yolov8n.yaml", "--epochs", "1", "--imgsz", "64", "--batch", "8", "--device", "cpu"]


def arguments(data, output, *more, layers="SimAM", seeds="0,1"):
    given = [
        "--layers",
        layers,
        "--seeds",
        seeds,
        "--data",
        data,
        "--output",
        output,
        "workers=0",
        "plots=False",
        "conf=0.00001",
    ]
    return [*BASE, *map(str, [*given, *more])]
