"""A whole comparison, made once."""

import pytest
from commands import arguments


@pytest.fixture(scope="session")
def whole(small_coco, tmp_path_factory):
    """yolov8n with and without SimAM, two seeds, one epoch each, which nothing interrupted."""
    from yolo_attn.cli import main

    output = tmp_path_factory.mktemp("whole") / "study"
    assert main(arguments(small_coco, output)) == 0
    return output
