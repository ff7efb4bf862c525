"""Two-stage training: the loop, its schedule, its data order and its checkpoints."""

from siglip_study.projectors.registry import projector_code

#: Raise it when the same run ends in other weights. (A projector's own file counts by itself.)
VERSION = 1


def code(projector: str) -> str:
    """What of the code decides that a run is trained again: this number and its own projector."""
    return f"{VERSION}-{projector_code(projector)}"
