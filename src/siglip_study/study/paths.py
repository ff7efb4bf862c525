"""The only place that spells paths."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from siglip_study.base.errors import StudyError
from siglip_study.study.cells import BASELINES, keys_hash


class Paths:
    """Every path under the output folder."""

    def __init__(self, output_dir: str | Path) -> None:
        self.root = Path(output_dir)
        self.report = self.root / "report.html"
        self.figures = self.root / "figures"
        self.report_answer = self.root / "report.json"
        self.demo = self.root / "demo"
        #: who leads the study at the moment
        self.head = self.root / ".resume" / "head.json"
        self.data = self.root / "data"
        self.manifest = self.data / "manifest.parquet"
        self.rejected = self.data / "rejected.parquet"
        self.manifest_summary = self.data / "summary.json"
        self.tables = self.root / "tables"
        self.scorer_check = self.tables / "scorer_check.json"
        self.scorer_verdict = self.tables / "scorer_verdict.txt"
        self.training_may_begin = self.tables / "training_may_begin"
        self.selection = self.tables / "selection.json"
        self.ranking = self.tables / "ranking.json"
        #: of `runtime.trackers`
        self.tracking = self.root / "tracking"

    def require_folder(self) -> None:
        """Raise StudyError where the output folder can be none: something else has its name."""
        for place in (self.root.absolute(), *self.root.absolute().parents):
            if place.is_dir():
                return
            if os.path.lexists(place):
                raise StudyError(
                    f"output_dir is {self.root}, and {place} is no folder; expected one or nothing."
                )

    def clips(self, split: str) -> Path:
        """The usable clips of a split, or of the one that is halved."""
        return self.data / "clips" / f"{split}.parquet"

    def unused(self, split: str) -> Path:
        """What of a split is not used."""
        return self.data / "clips" / f"{split}.unused.json"

    def features(self, slug: str, split: str) -> Path:
        return self.root / "features" / slug / split

    def scorer_features(self, slug: str, split: str) -> Path:
        return self.root / "features" / slug / f"{split}.safetensors"

    def stage1(self, stage1_name: str) -> Path:
        return self.root / "stage1" / stage1_name

    def run(self, cell: str) -> Path:
        """The folder of a cell, trained or baseline."""
        return self.root / ("baselines" if cell in BASELINES else "runs") / cell

    def captions(self, cell: str) -> Path:
        """The captions of a cell; a baseline captions both held-out splits in one file."""
        return self.run(cell) / "captions.json"

    def scores(self, phase: str) -> Path:
        """Index of the cells that a scoring job scored."""
        return self.tables / f"scores.{phase}.json"

    def resume(self, name: str, params: Any) -> Path:
        """A resume point outside the declared outputs, which Snakemake deletes when a job fails."""
        return self.root / ".resume" / f"{name}-{keys_hash({'params': params})}"

    def handover(self, cell: str, key: Any) -> Path:
        """Captions made while the model was loaded, waiting for the job that declares them."""
        return self.root / ".resume" / f"captions-{cell}-{keys_hash({'key': key})}"

    def log(self, rule: str, name: str = "all") -> str:
        return str(self.root / "logs" / rule / f"{name}.log")

    def benchmark(self, rule: str, name: str = "all") -> str:
        return str(self.root / "benchmarks" / rule / f"{name}.tsv")
