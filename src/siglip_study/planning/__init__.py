"""What a study will cost and whether it can start: ``rehearse`` and ``preflight``."""
