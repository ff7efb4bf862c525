"""METEOR on token lists as an `evaluate` metric.

`evaluate.load("meteor")` fetches English resources from the hub and splits strings by English
rules; this module takes tokens, so that Korean can come as morphemes, and needs no network.
"""

# One import a line: evaluate reads this file's imports with a line-wise parser.
import datasets  # type: ignore[import-untyped]
import evaluate
import numpy as np

from siglip_study.metrics.meteor import DEFAULT_ALPHA, DEFAULT_BETA, DEFAULT_GAMMA, meteor_pairs

_DESCRIPTION = "METEOR with exact matches only, on tokens given by the caller."
_CITATION = "Lavie and Agarwal, METEOR: An Automatic Metric for MT Evaluation, 2007."
_INPUTS = """
Args:
    predictions: one token list a caption.
    references: one or more token lists a caption.
    alpha, beta, gamma: weights of precision against recall and of the fragmentation penalty.
Returns:
    meteor: mean over captions, 0 for no caption; per_clip: one score a caption.
"""


class MeteorTokens(evaluate.Metric):
    """METEOR with exact matches on token lists; the best reference counts."""

    def _info(self) -> evaluate.MetricInfo:
        tokens = datasets.Sequence(datasets.Value("string"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features(
                {"predictions": tokens, "references": datasets.Sequence(tokens)}
            ),
        )

    def _compute(
        self,
        predictions: list[list[str]],
        references: list[list[list[str]]],
        alpha: float = DEFAULT_ALPHA,
        beta: float = DEFAULT_BETA,
        gamma: float = DEFAULT_GAMMA,
    ) -> dict[str, object]:
        own = [np.array([i]) for i in range(len(predictions))]
        rows = meteor_pairs(references, predictions, own, alpha=alpha, beta=beta, gamma=gamma)
        scores = [float(row[0]) for row in rows]
        return {"meteor": sum(scores) / len(scores) if scores else 0.0, "per_clip": scores}
