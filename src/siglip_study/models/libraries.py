"""The libraries that load a model, and what each process makes in them once."""

import peft  # noqa: F401
import torch  # noqa: F401
import transformers.models.auto.modeling_auto
import transformers.models.auto.tokenization_auto  # noqa: F401
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

# Its first call compiles the patterns of all families' weights, in a third of a job's loading.
get_checkpoint_conversion_mapping("")
