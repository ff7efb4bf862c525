"""The demo's micro models: a CLIP vision tower, a Qwen3 language model and a SigLIP scorer."""
