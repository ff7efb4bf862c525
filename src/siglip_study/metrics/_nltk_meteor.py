"""nltk's METEOR on token lists as a metric of `evaluate`, for `evaluate.load(<this file>)`.

`evaluate.load("meteor")` fetches English resources from the hub and splits strings by English
rules; this module takes tokens, so that Korean can come as morphemes, and needs no network.
"""

# One import a line: evaluate reads this file's imports with a line-wise parser.
import datasets  # type: ignore[import-untyped]
import evaluate
from nltk.translate import meteor_score

_DESCRIPTION = "METEOR with exact matches only, on tokens given by the caller."
_CITATION = "Lavie and Agarwal, METEOR: An Automatic Metric for MT Evaluation, 2007."


class ExactOnly:
    """Stands in for WordNet, which has no Korean, and for a stemmer: tokens are morphemes."""

    def synsets(self, word: str) -> list[object]:
        return []

    def stem(self, word: str) -> str:
        return word


class NltkMeteor(evaluate.Metric):
    """METEOR of token lists ``predictions``, each with its ``references``, the best one counting.

    ``alpha``, ``beta`` and ``gamma`` weigh precision against recall and the fragmentation penalty.
    """

    def _info(self) -> evaluate.MetricInfo:
        tokens = datasets.Sequence(datasets.Value("string"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            features=datasets.Features(
                {"predictions": tokens, "references": datasets.Sequence(tokens)}
            ),
        )

    def _compute(
        self,
        predictions: list[list[str]],
        references: list[list[list[str]]],
        alpha: float,
        beta: float,
        gamma: float,
    ) -> dict[str, list[float]]:
        scores = [
            meteor_score.meteor_score(
                wanted,
                caption,
                preprocess=str,
                stemmer=ExactOnly(),
                wordnet=ExactOnly(),
                alpha=alpha,
                beta=beta,
                gamma=gamma,
            )
            if wanted
            else 0.0
            for caption, wanted in zip(predictions, references, strict=True)
        ]
        return {"meteor": scores}
