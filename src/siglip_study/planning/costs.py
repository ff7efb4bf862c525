"""Costs of every distinct piece of work: by formula, and as measured on this machine."""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from siglip_study.planning.forecast import Forecast, Gpu
from siglip_study.planning.rows import Cost
from siglip_study.planning.workload import Connector, StageShape, Workload

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Key:
    """What one row is about: a part, and the shape that tells it from its like."""

    part: str
    shape: StageShape | Connector | None = None


def by_tokens(workload: Workload, forecast: Forecast) -> dict[Connector, Connector]:
    """Connector → the first one that gives as many tokens: captions cost the same for both."""
    first: dict[int, Connector] = {}
    return {c: first.setdefault(forecast.sequence(c).prompt, c) for c in workload.connectors}


def merged(units: Counter[Connector], twin: dict[Connector, Connector]) -> Counter[Connector]:
    """Units of connectors that cost the same, added up."""
    sums: Counter[Connector] = Counter()
    for connector, n in units.items():
        sums[twin[connector]] += n
    return sums


def estimates(workload: Workload, forecast: Forecast, gpu: Gpu) -> dict[Key, Cost]:
    """Every cost by formula."""
    config, dataset = workload.config, workload.dataset
    budget, clips = caption_budget(workload), dataset.clips["report"]
    batch = min(clips, config.captions.batch_size or clips)
    found = {
        Key("vision features"): forecast.features(gpu),
        Key("scorer images"): forecast.scorer_images(gpu),
        Key("scorer texts"): forecast.scorer_texts(gpu),
    }
    found |= {Key("step", shape): forecast.step(shape, gpu) for shape in workload.steps}
    quick = config.training.quick_tokens
    for connector in set(by_tokens(workload, forecast).values()):
        found[Key("validation", connector)] = forecast.validation(connector, gpu)
        found[Key("conditions", connector)] = forecast.conditions(connector, gpu)
        found[Key("captions", connector)] = forecast.caption(connector, gpu, budget, batch)
        found[Key("quick captions", connector)] = forecast.caption(
            connector, gpu, quick, max(1, config.training.quick_clips)
        )
    return found


def measurements(
    workload: Workload, forecast: Forecast, layout: Any, tokenizer: Any
) -> dict[Key, Cost]:
    """Every cost as timed on this machine; progress is logged."""
    from siglip_study.planning.measure import Trial
    from siglip_study.planning.measure_towers import measure_features, measure_scorer

    config, dataset = workload.config, workload.dataset
    found: dict[Key, Cost] = {}
    began = time.monotonic()

    def note(key: Key, cost: Cost) -> None:
        found[key] = cost
        name = key.part if key.shape is None else f"{key.part} {shape_name(workload, key.shape)}"
        seconds = "no time" if cost.seconds is None else f"{cost.seconds:.3g} s"
        log.info("rehearsal %4.0f s · %s: %s", time.monotonic() - began, name, seconds)

    note(Key("vision features"), measure_features(config))
    images, texts = measure_scorer(config, forecast.texts_a_caption)
    note(Key("scorer images"), images)
    note(Key("scorer texts"), texts)
    trial = Trial(config, forecast.facts, dataset, layout)
    for shape in (s for s in workload.steps if s.stage == 1):
        note(Key("step", shape), trial.step(shape))
    trial.add_adapters()
    for shape in (s for s in workload.steps if s.stage == 2):
        note(Key("step", shape), trial.step(shape))
    # Shapes with as many tokens share these.
    distinct = list(dict.fromkeys(by_tokens(workload, forecast).values()))
    clips, training = dataset.clips["report"], config.training
    looked_at = max(1, min(dataset.clips["selection"], training.quick_clips))
    for connector in distinct:
        note(Key("validation", connector), trial.validation(connector))
        quick = trial.captions(connector, tokenizer, looked_at, training.quick_tokens)
        note(Key("quick captions", connector), quick)
    trial.prepare_captions()
    budget = caption_budget(workload)
    for connector in distinct:
        note(
            Key("captions", connector),
            trial.captions(connector, tokenizer, clips, budget, config.captions.max_new_tokens),
        )
        note(Key("conditions", connector), trial.conditions(connector))
    return found


def shape_name(workload: Workload, shape: StageShape | Connector) -> str:
    """A shape for the table, by the first label that has it."""
    if isinstance(shape, StageShape):
        label = workload.label(shape.connector)
        return f"{label}, {shape.batch} clips × {shape.accumulation}"
    return workload.label(shape)


def caption_budget(workload: Workload) -> int:
    """Tokens of a caption: as long as the references, within the configured budget."""
    mean = round(workload.dataset.mean_tokens)
    return min(mean, workload.config.captions.max_new_tokens)
