"""The jobs that Snakemake would run for a study, and why, as JSON on standard output.

Run with, in the folder of the workflow:

    python -m snakemake_logger_plugin_siglip.due_jobs config/study.yaml

Asked by ``siglip_study.planning.explain``, which tells it in cells. Snakemake's own graph is built
and nothing is run; a study that runs meanwhile is not disturbed. A cause is a list of words:

    ["params", name, …]   parameters of the rule that are not those of last time
    ["inputs"]            it reads other files than last time
    ["newer", path, …]    files that it reads are newer than what it made
    ["missing"]           it has not run, or what it made is gone
    ["cut short"]         it was interrupted
    ["no record"]         nothing tells how its files were made
    ["after", number, …]  jobs of this list come before it and make what it reads
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
from pathlib import Path
from typing import Any

import yaml
from snakemake.api import SnakemakeApi
from snakemake.settings.enums import RerunTrigger
from snakemake.settings.types import (
    ConfigSettings,
    DAGSettings,
    OutputSettings,
    ResourceSettings,
)


def due_jobs(config: Path | None) -> list[dict[str, Any]]:
    """Rule, wildcards and causes of each job that is due, those before others first."""
    profile = yaml.safe_load(Path("profiles/default/profile.yaml").read_text(encoding="utf-8"))
    triggers = frozenset(map(RerunTrigger.parse_choice, profile["rerun-triggers"]))
    with SnakemakeApi(OutputSettings(dryrun=True, stdout=False)) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(configfiles=[config] if config else []),
            snakefile=Path("Snakefile"),
        )
        with contextlib.redirect_stdout(io.StringIO()):
            workflow.dag(DAGSettings(rerun_triggers=triggers)).summary()
        # There is no public way to the graph; a test holds this against what a dry run says.
        dag = workflow._workflow.dag
        jobs = [job for level in dag.toposorted() for job in level if dag.needrun(job)]
        jobs = [job for job in jobs if job.output]
        number = {job: i for i, job in enumerate(jobs)}
        return [
            {
                "rule": job.rule.name,
                "wildcards": dict(job.wildcards_dict),
                "causes": [*_causes(dag, job), *_after(dag, job, number)],
            }
            for job in jobs
        ]


def _causes(dag: Any, job: Any) -> list[list[str]]:
    reason, found = dag.reason(job), list[list[str]]()
    if reason.missing_output:
        return [["missing"]]
    if reason.incomplete_output:
        found.append(["cut short"])
    if reason.params_changed:
        found.append(["params", *_changed(dag, job, reason.params_changed.only_new)])
    # Files that a job before it is still to make are told by that job.
    if reason.input_changed and not reason.updated_input_run:
        found.append(["inputs"])
    if newer := reason.updated_input - reason.updated_input_run:
        found.append(["newer", *sorted(map(str, newer))])
    if reason.no_metadata or reason.outdated_metadata:
        found.append(["no record"])
    return found


def _changed(dag: Any, job: Any, new: set[str]) -> list[str]:
    """Names of the parameters whose values are among the new ones."""
    told = dag.workflow.persistence._serialize_param
    return [name for name, value in job.params.items() if told(value) in new]


def _after(dag: Any, job: Any, number: dict[Any, int]) -> list[list[Any]]:
    made = dag.reason(job).updated_input_run
    before = [
        number[other]
        for other, files in dag.dependencies[job].items()
        if other in number and not made.isdisjoint(files)
    ]
    return [["after", *sorted(before)]] if before else []


if __name__ == "__main__":
    # Snakemake's own words go to standard error, its mistakes among them.
    logging.getLogger("snakemake").setLevel(logging.ERROR)
    found = due_jobs(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    json.dump({"schema": "due_jobs/1", "jobs": found}, sys.stdout)
