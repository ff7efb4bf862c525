"""Checks in seconds, before any GPU time: config, models, data, disk, GPU, report."""

from __future__ import annotations

from siglip_study.config.loading import Config
from siglip_study.planning.data_checks import check_data
from siglip_study.planning.findings import Check, Finding, Premises, run_checks
from siglip_study.planning.model_checks import (
    check_bertscore,
    check_llm,
    check_projectors,
    check_scorer,
    check_tokenizer,
    check_vision,
)
from siglip_study.planning.resource_checks import check_config, check_disk, check_gpu, check_report

#: What is checked, in this order; all of it, whatever fails.
CHECKS: tuple[tuple[str, Check], ...] = (
    ("config", check_config),
    ("vision", check_vision),
    ("llm", check_llm),
    ("tokenizer", check_tokenizer),
    ("scorer", check_scorer),
    ("bertscore", check_bertscore),
    ("projectors", check_projectors),
    ("data", check_data),
    ("disk", check_disk),
    ("gpu", check_gpu),
    ("report", check_report),
)


def preflight(config: Config) -> list[Finding]:
    """Every finding of every check."""
    return list(run_checks(CHECKS, Premises(config)))


def verdict(findings: list[Finding]) -> tuple[bool, str]:
    """Whether the study may start, and a sentence that counts what was found."""
    counts = {level: sum(f.level == level for f in findings) for level in ("failed", "warning")}
    ready = counts["failed"] == 0
    told = f"{counts['failed']} failed, {counts['warning']} warnings, {len(findings)} findings"
    return ready, f"preflight: {'ready' if ready else 'not ready'} ({told})."
