"""What several tests of unlearning share: a tiny random target."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of 9 k parameters with a word tokenizer that puts BOS in front."""
    from tests.unlearning.test_unlearn import make_target

    return make_target(tmp_path_factory.mktemp("target"))
