"""A GPU without room is not reported as a model that cannot be fetched."""

import pytest
import torch

from siglip_study.base.errors import StudyError
from siglip_study.models.hub import load_weights


class Full:
    @staticmethod
    def from_pretrained(model: str, **options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.\nAdvice.")


def test_weights_that_find_no_room(tmp_path):
    for model in (str(tmp_path), "acme/large"):
        with pytest.raises(StudyError) as error:
            load_weights(Full, model, None, "llm.model", torch.float32)
        assert str(error.value).startswith(
            f"llm.model '{model}' does not fit into the GPU's memory (CUDA out of memory. Tried to "
            "allocate 9 GiB.); expected "
        )
        assert "fetch" not in str(error.value) and "\n" not in str(error.value)
