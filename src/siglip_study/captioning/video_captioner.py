"""A trained run as something that captions any clip: the winner, used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from siglip_study.base.errors import ClipError, StudyError
from siglip_study.captioning.exported import FILES, copy_export, read_run, require_export
from siglip_study.captioning.generate import Caption, generate_captions
from siglip_study.captioning.weights import weights_for_captions
from siglip_study.config.study import RuntimeConfig
from siglip_study.data.clips import ClipFile
from siglip_study.data.decoding import read_frames
from siglip_study.features.towers import VisionEncoder
from siglip_study.models.client import Hub
from siglip_study.models.hub import is_folder, is_path
from siglip_study.models.llm import import_libraries, load_tokenizer, prompt_layout
from siglip_study.runs.run import check_checkpoint, first_model, load_projector, use_device


class VideoCaptioner:
    """A run of a study on a device.

    >>> captioner = VideoCaptioner("results/runs/linear_a7daac0c")  # doctest: +SKIP
    >>> [caption.text for caption in captioner(["clip.mp4"])]  # doctest: +SKIP

    An exported one is loaded, saved and shared as models of transformers are:
    :meth:`from_pretrained`, :meth:`save_pretrained`, :meth:`push_to_hub`. (huggingface_hub's own
    ``ModelHubMixin`` would put the local folder into a ``config.json``.)

    It sees what the study's clips were seen by: the same encoder, layer and number of frames,
    features in bf16, greedy decoding. On a CPU its caption of a study's clip is the study's.

    Args:
        folder: of a run: ``runs/<cell>`` in a study's output folder, with its ``checkpoint``, or
            what ``siglip_study.report.export`` made of one. Models that lie in its ``models/`` are
            taken in place of those that the run names.
        runtime: device, threads and memory; by default a GPU if there is one.

    Raises:
        StudyError: no such run, a damaged checkpoint, or a model of it that is not at hand.
    """

    def __init__(self, folder: str | Path, runtime: RuntimeConfig | None = None) -> None:
        folder = Path(folder)
        if not (folder / "cell.json").is_file():
            raise StudyError(
                f"{folder}: no run; expected a folder 'runs/<cell>' of a study's results, or an "
                "export of one, with cell.json and checkpoint."
            )
        _, run = read_run(folder)
        for part in ("vision", "llm"):
            own, named = folder / "models" / part, getattr(run, part)
            if own.is_dir():
                update = {part: named.model_copy(update={"model": str(own), "revision": None})}
                run = run.model_copy(update=update)
            elif is_path(named.model) and not is_folder(named.model):
                raise StudyError(
                    f"{own}: no such folder, nor is '{named.model}' one from here; expected the "
                    "model that the run was trained with in either."
                )
        self.run = run
        self._folder = folder
        self._runtime = runtime or RuntimeConfig()
        checkpoint = folder / "checkpoint"
        check_checkpoint(checkpoint)
        if self.run.sabotage == "noise_features":
            raise StudyError(f"{folder}: trained on noise; expected a run that saw its clips.")
        if self.run.projector == "constant_prefix":
            raise StudyError(f"{folder}: trained without video; expected a run that saw its clips.")

        import_libraries(self.run.llm, adapters=True)
        device = use_device(self._runtime).device
        self._encoder = VisionEncoder.from_config(self.run.vision, device)
        self._tokenizer = load_tokenizer(self.run.llm)
        layout = prompt_layout(self._tokenizer, self.run.llm)
        model = first_model(self.run, self._encoder.facts, layout, device, adapters=checkpoint)
        load_projector(checkpoint, model)
        model.llm = weights_for_captions(model.llm, self.run.llm, self._runtime.memory_gb)
        self._model = model

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | Path,
        *,
        revision: str | None = None,
        runtime: RuntimeConfig | None = None,
    ) -> Self:
        """Load an exported run from a folder, or from a repository of the hub.

        Of a repository only the files that an export has are fetched, and nothing of it is run or
        unpickled, nor a module imported that it names. Without a network (or with
        ``HF_HUB_OFFLINE=1``) it comes from the local cache.

        Args:
            name_or_folder: a folder, or ``owner/name``; a folder of that name comes first.
            revision: a repository's branch, tag or, so that nobody can change it, commit.
            runtime: device, threads and memory.

        Raises:
            StudyError: not there, not open to this account, no network, or as of the class.
        """
        name = str(name_or_folder)
        if not is_folder(name):
            if is_path(name):
                raise StudyError(
                    f"{name}: no such folder; expected an exported run, or a repository of the hub "
                    "such as 'owner/winner'."
                )
            folder = Hub().download(name, revision, FILES)
            told = (folder / "cell.json").is_file()  # else the class says what is missing
            if told and ":" in (named := read_run(folder)[1].projector):
                raise StudyError(
                    f"{name}: its projector is '{named}', a module to import; expected one of this "
                    "package. Where you trust it: download the repository and name the folder."
                )
            return cls(folder, runtime)
        if revision is not None:
            raise StudyError(f"revision is '{revision}', but {name} is a folder; expected none.")
        return cls(name, runtime)

    def save_pretrained(self, folder: str | Path) -> None:
        """Copy the exported run to a new folder, its model card and models with it.

        Raises:
            StudyError: the run was not exported, or ``folder`` is there.
        """
        copy_export(self._folder, Path(folder))

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = True,
        commit_message: str = "An exported run of siglip-study",
    ) -> str:
        """Put the exported run into a repository of the hub, made if need be; gives the commit.

        What ``models/`` holds goes along, under its own licence.

        Args:
            repo_id: ``owner/name``.
            private: whether a repository that is made is for its owner alone.
            commit_message: first line of the commit.

        Raises:
            StudyError: the run was not exported, no token that may write, or no network.
        """
        require_export(self._folder)
        return Hub().upload(self._folder, repo_id, FILES, private, commit_message)

    def __call__(
        self, clips: Sequence[str | Path], max_new_tokens: int | None = None, batch: int = 8
    ) -> Iterator[Caption | ClipError]:
        """Caption video files, in their order, ``batch`` at a time.

        A clip that cannot be used gives its error in place of a caption. ``max_new_tokens`` is the
        budget of a caption; by default that of the captions it was trained on.
        """
        for start in range(0, len(clips), batch):
            seen: list[Tensor] = []
            failed: dict[int, ClipError] = {}
            chosen = clips[start : start + batch]
            for i, clip in enumerate(chosen):
                try:
                    seen.append(self._features(Path(clip)))
                except ClipError as error:
                    failed[i] = error
            said = iter(self._say(seen, max_new_tokens, batch))
            for i in range(len(chosen)):
                yield failed[i] if i in failed else next(said)

    def _say(self, seen: Sequence[Tensor], budget: int | None, batch: int) -> list[Caption]:
        """Captions of features ``[F, P, V]`` each."""
        return generate_captions(
            self._model,
            self._tokenizer,
            [str(i) for i in range(len(seen))],
            lambda ids: torch.stack([seen[int(i)] for i in ids]),
            max_new_tokens=budget or self.run.training.max_target_tokens,
            batch_size=batch,
            memory_gb=self._runtime.memory_gb,
        )

    def _features(self, clip: Path) -> Tensor:
        """``[F, P, V]`` in bf16, as a study stores them."""
        frames = read_frames(
            ClipFile(clip), self.run.vision.frames, self.run.vision.frames_per_second
        )
        prepared = self._encoder.prepare(np.asarray(frames))[None]
        return self._encoder.encode_prepared(prepared)[0].to(torch.bfloat16)
