"""From checkpoints to captions, losses, scores and the chosen cells."""
