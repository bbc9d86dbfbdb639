"""The application around the shipped model."""

import numpy as np
import pytest
from fastapi.testclient import TestClient

from gem_lightning.ecg import EcgRecord, write_ecg
from gem_lightning.serving.api import build_app
from gem_lightning.serving.limits import Limits
from helpers_serving import upload


@pytest.fixture(scope="session")
def gem_small():
    from gem_lightning.models import Gem

    return Gem.from_pretrained("gem_small")


@pytest.fixture(scope="module")
def client(gem_small):
    app = build_app(gem_small, name="gem_small", limits=Limits(max_upload_mb=1), max_new_tokens=40)
    with TestClient(app) as client:
        yield client


@pytest.fixture
def flat(tmp_path):
    """The files of a flat line, for ``post``."""
    return upload(write_ecg(EcgRecord(np.zeros((12, 5000), np.float32), 500), tmp_path / "flat.dcm"))
