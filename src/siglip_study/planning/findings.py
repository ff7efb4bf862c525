"""What a check before the study found: one sentence, and whether the study may start."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from siglip_study.base.errors import StudyError
from siglip_study.config.study import Config
from siglip_study.study.grid import Study

Level = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Finding:
    """One line: how it stands, what was looked at, and a sentence."""

    level: Level
    what: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.level:8}{self.what}: {self.sentence}"


class Premises:
    """What checks look at: the study, and what several of them need, read once."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.study = Study(config)

    @cached_property
    def tokenizer(self) -> Any:
        """The LLM's tokenizer, or None where it is not on this machine."""
        from siglip_study.planning.facts import tokenizer_at_hand

        return tokenizer_at_hand(self.config)

    @cached_property
    def forecast(self) -> Any:
        """Sizes and costs of the study by formula.

        Raises:
            StudyError: a model's sizes, or the dataset, cannot be read.
        """
        from siglip_study.planning.dataset import describe_dataset
        from siglip_study.planning.facts import ASSUMED_PROMPT, model_facts
        from siglip_study.planning.forecast import Forecast

        facts = model_facts(self.config)
        dataset = describe_dataset(self.config, self.tokenizer)
        return Forecast(self.config, facts, dataset, sum(ASSUMED_PROMPT))

    @cached_property
    def workload(self) -> Any:
        """Units of work of every cell. Raises StudyError as :attr:`forecast` does."""
        from siglip_study.planning.workload import Workload

        return Workload(self.study, self.forecast.dataset)

    @property
    def data_root(self) -> Path:
        """The dataset's folder."""
        return self.config.data_root


Check = Callable[[Premises], Iterable[Finding]]


def run_checks(checks: Iterable[tuple[str, Check]], premises: Premises) -> Iterator[Finding]:
    """Findings of every check, in order; one that cannot be finished is a failure, not the end."""
    for what, check in checks:
        try:
            yield from check(premises)
        except StudyError as error:
            yield Finding("failed", what, str(error))
