from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # two test processes on two cores


@pytest.fixture(scope="session")
def project_root() -> Path:
    return Path(__file__).resolve().parent.parent
