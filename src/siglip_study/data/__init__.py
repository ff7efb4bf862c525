"""Dataset layouts → one manifest; frames sampled in time and decoded."""
