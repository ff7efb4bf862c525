"""Two-stage training: the loop, its schedule, its data order and its checkpoints."""
