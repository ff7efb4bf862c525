"""Data-parallel training as real processes: the same result, and no rank left behind."""

import json
import os
import select
import signal
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import polars as pl
import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from safetensors.torch import load_file
from support import ranks
from support.features import write_inputs

from siglip_study.base.errors import StudyError, is_full_disk, is_lost_gpu
from siglip_study.config import parse
from siglip_study.config.study import RuntimeConfig
from siglip_study.models.devices import pick_device
from siglip_study.runs.run import Inputs
from siglip_study.study import Study
from siglip_study.training import stages
from siglip_study.training.distributed import launch, require_same_weights
from siglip_study.training.stages import StageJob, run_stage

SIZES = {"train": 11, "selection": 3}
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu(count=2))]


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def world(tmp_path_factory, micro_config, features):
    """Input files and a config: all that processes share is files."""
    folder = tmp_path_factory.mktemp("world")
    write_inputs(folder, features, SIZES, lambda _, i: ["빨간 공 " * (1 + i % 4) + str(i)])
    config = micro_config(
        folder,
        # Steps of 5, 5 and 1 clips: the last one leaves a rank without any.
        stage1={"epochs": 2, "batch_size": 5, "gradient_accumulation": 1},
        stage2={"batch_size": 5, "gradient_accumulation": 1},
    )
    config["llm"]["lora"]["dropout"] = 0.0  # two ranks would drop other activations than one
    (folder / "config.json").write_text(json.dumps(config))
    return folder


#: What two processes add in another order than one, they round otherwise.
ROUNDING = {"cpu": 1e-4, "cuda": 3e-2, "cuda in fp32": 1e-4}
EXACT = pytest.param("cuda in fp32", marks=pytest.mark.gpu(count=2))


def live(world: Path, gpus: int, out: Path, device="cpu", progress=str, both=False, exact=False):
    """Stage 1, or both, by so many ranks; ``exact``: in fp32 on a GPU too."""
    cell = Study(parse(json.loads((world / "config.json").read_text()))).tuning[0]
    clips = dict.fromkeys(SIZES, world / "manifest.parquet")
    inputs = Inputs(clips, {split: world / split for split in SIZES})
    runtime = RuntimeConfig(device=device, gpus=gpus, eval_batch_clips=2, save_minutes=1e-9)
    started = partial(ranks.launch_in_fp32, launch) if exact else launch
    with any_device(), mock.patch.object(stages, "launch", started):
        run_stage(StageJob(1, cell, inputs, out / "s1", out / "r1", runtime, progress))
    if both:
        loaded = partial(ranks.note_loaded, out)
        job = StageJob(2, cell, inputs, out / "s2", out / "r2", runtime, str, out / "s1", loaded)
        short = partial(ranks.launch_short_of_room, started, out)
        with any_device(), mock.patch.object(stages, "launch", short):
            run_stage(job)


@contextmanager
def any_device():
    """accelerate keeps a process to its first device: within, that is forgotten."""
    with (
        mock.patch.dict(AcceleratorState._shared_state, clear=True),
        mock.patch.dict(PartialState._shared_state, clear=True),
    ):
        yield


@pytest.fixture(scope="module", params=[*DEVICES, EXACT])
def ends(request, world):
    """Both stages by one process and by two, and how they were computed."""
    device, _, exact = request.param.partition(" in ")
    folders = [world / f"{request.param}{gpus}" for gpus in (1, 2)]
    # Two first: a process keeps the GPUs that it took, and sees no other.
    for gpus, folder in ((2, folders[1]), (1, folders[0])):
        live(world, gpus, folder, device=device, both=True, exact=bool(exact))
    return *folders, request.param


def weights(stage: Path) -> dict[str, torch.Tensor]:
    found = load_file(stage / "checkpoint/projector.safetensors")
    adapters = stage / "checkpoint/lora/adapter_model.safetensors"
    return found | (load_file(adapters) if adapters.is_file() else {})


@pytest.mark.parametrize("stage", ["s1", "s2"])
def test_two_ranks_train_what_one_trains(ends, stage):
    one, two, rel = ends[0] / stage, ends[1] / stage, ROUNDING[ends[2]]
    steps = [pl.read_parquet(folder / "steps.parquet") for folder in (one, two)]
    assert steps[0]["samples"].to_list()[:3] == [5, 5, 1]
    for column in ("samples", "target_tokens", "epoch", "lr_projector"):
        assert steps[0][column].to_list() == steps[1][column].to_list()
    epochs = [pl.read_parquet(folder / "epochs.parquet") for folder in (one, two)]
    assert epochs[1]["quick_n"].to_list() == epochs[0]["quick_n"].to_list()
    for (a, b), columns in ((steps, ("loss", "grad_norm")), (epochs, ("train_loss", "val_loss"))):
        for column in columns:
            assert b[column].to_list() == pytest.approx(a[column].to_list(), rel=rel)
    expected, found = weights(one), weights(two)
    assert found.keys() == expected.keys()
    if ends[2] != "cuda":  # Adam steps by a gradient's sign, which bf16 rounds where it is near 0
        for name, tensor in expected.items():
            assert float((found[name] - tensor).norm() / tensor.norm()) < rel, name


def test_a_rank_without_room_for_its_clips_has_all_take_the_step_again_in_smaller_passes(ends):
    """Stage 2 of two ranks; that the result is the same is held above."""
    alone, shared = (folder / "no_room" for folder in ends[:2])
    assert not alone.exists() and shared.read_text() == "rank 1, 2 clips\n"


def test_one_rank_alone_goes_on_with_the_loaded_model(ends):
    assert [(folder / "loaded").read_text() for folder in ends[:2]] == ["once\n"] * 2


@pytest.mark.parametrize("gpus", [pytest.param(1, marks=pytest.mark.full), 2])
def test_ranks_end_with_their_killed_job_and_the_next_one_continues(world, ends, tmp_path, gpus):
    code = (
        "from functools import partial\nfrom pathlib import Path\n"
        "from support.ranks import kill_the_job\nfrom test_distributed import live\n"
        f"world, out = Path('{world}'), Path('{tmp_path}')\n"
        f"live(world, {gpus}, out, progress=partial(kill_the_job, out))\n"
    )
    tests = Path(__file__).parents[1]
    with pytest.MonkeyPatch.context() as patch:
        for folder in (Path(__file__).parent, tests):
            patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        died = subprocess.run([sys.executable, "-c", code])
    assert died.returncode == -signal.SIGKILL
    for rank in json.loads((tmp_path / "ranks.json").read_text()):
        try:
            handle = os.pidfd_open(rank)
        except ProcessLookupError:
            continue  # gone already
        assert select.select([handle], [], [], 20)[0], "a rank outlived its job"
        os.close(handle)
    assert list((tmp_path / "r1").glob("step-*"))
    live(world, gpus, tmp_path)
    if not torch.cuda.is_available():  # else the fixture's last device may be a GPU
        stages = tmp_path / "s1", ends[gpus - 1] / "s1"
        found, expected = map(weights, stages)
        assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
        steps = [pl.read_parquet(folder / "steps.parquet")["loss"].to_list() for folder in stages]
        assert steps[0] == steps[1]


# ---- What ends a launch.


@pytest.mark.parametrize("device", DEVICES)
def test_a_rank_that_is_killed_is_the_sentence_and_all_are_open_to_this_machine_alone(
    device, tmp_path
):
    sentence = r"^rank 1 of 2 \(process \d+\) ended by SIGKILL; expected [^\n]+\.$"
    with pytest.raises(StudyError, match=sentence):
        launch(ranks.listed_and_killed, 2, pick_device(device, 2), tmp_path)
    if device == "cpu" and Path("/proc/net/tcp").is_file():  # the kernel tells in /proc
        for rank in (0, 1):
            heard = json.loads((tmp_path / f"rank{rank}.json").read_text())
            assert heard and all(address.startswith("0100007F:") for address in heard)


def test_a_mistake_that_another_rank_finds_is_the_sentence_and_a_defect_its_traceback():
    with pytest.raises(StudyError, match=r"^order 7: found a mistake\.$"):
        launch(ranks.mistaken, 2, pick_device("cpu", 2), 7)
    with pytest.raises(Exception, match=r"in broken\n(.*\n)+ZeroDivisionError: a defect"):
        launch(ranks.broken, 2, pick_device("cpu", 2))


@pytest.mark.parametrize(
    ("error", "is_told"),
    [
        (RuntimeError("CUDA error: unspecified launch failure\nCompile with"), is_lost_gpu),
        (RuntimeError("NCCL error in: x.hpp:94, unhandled cuda error (run with"), is_lost_gpu),
        (OSError(28, "No space left on device", "/scratch/weights"), is_full_disk),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)[:12]),
)
def test_what_no_config_mends_in_another_rank_is_told_as_in_the_first(error, is_told):
    with pytest.raises((RuntimeError, OSError)) as raised:
        launch(ranks.failing, 2, pick_device("cpu", 2), error)
    assert is_told(raised.value)
    assert str(raised.value) == f"rank 1 of 2: {str(error).splitlines()[0]}"


def test_a_disk_too_full_for_the_sentence_is_told_all_the_same():
    with pytest.raises(OSError, match="No space left on device") as raised:
        launch(ranks.without_any_room, 2, pick_device("cpu", 2))
    assert is_full_disk(raised.value)


def test_ranks_with_other_weights_are_found():
    weights = {"w": torch.nn.Parameter(torch.ones(2))}
    of_two = SimpleNamespace(num_processes=2, device=torch.device("cpu"))
    of_two.gather = lambda mine: torch.cat([mine, mine])
    require_same_weights(weights, 4, of_two)
    of_two.gather = lambda mine: torch.cat([mine, mine + 1])
    with pytest.raises(StudyError, match="after optimizer step 4, the weights of rank 1 differ"):
        require_same_weights(weights, 4, of_two)
