"""A small set of which any part may be hostile, and what is logged."""

import json
import logging

import pytest
from support import save_noise


@pytest.fixture
def written(tmp_path):
    """Writes a JSON, and the three images."""

    def write(content, name="annotations/instances_val.json"):
        file = tmp_path / "set" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        for n in (1, 2, 3):
            save_noise(tmp_path / f"set/images/val/{n}.jpg")
        return tmp_path / "set"

    return write


@pytest.fixture
def logged(caplog):
    """Messages of Ultralytics' logger so far."""
    logging.getLogger("ultralytics").addHandler(caplog.handler)
    yield lambda: [record.message for record in caplog.records]
    logging.getLogger("ultralytics").removeHandler(caplog.handler)
