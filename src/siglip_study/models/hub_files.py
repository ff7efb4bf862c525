"""What a model on the hub consists of, and bringing it to this machine: never a pickle."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from siglip_study.base.errors import StudyError

_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
_SETTINGS = re.compile(r"[\w.-]+\.(json|jinja|model)|(merges|vocab)\.txt")
_FOREIGN = re.compile(
    r"(pytorch_model|tf_model|flax_model|consolidated|adapter)\b.*|.*\.index\.json"
)
#: The account whose pull requests hold what the hub's own converter made of pickles.
_CONVERTER = "SFconvertbot"


@dataclass(frozen=True)
class Revision:
    """The files of a model at one commit: name → size in bytes."""

    commit: str
    sizes: Mapping[str, int]


class Hub(Protocol):
    """What fetching needs of a hub."""

    def files(self, model: str, revision: str | None) -> Revision:
        """All files of a model at a revision (None: its main branch)."""

    def converted(self, model: str) -> str | None:
        """The revision that holds the converter's safetensors, if there is one."""

    def download(self, model: str, revision: str | None, names: list[str]) -> Path:
        """Bring these files into the local cache; the folder they lie in."""


def weight_files(names: Iterable[str]) -> list[str]:
    """The safetensors that transformers reads, and their index; empty: there are none."""
    found = sorted(names)
    if _WHOLE in found:
        return [_WHOLE]
    shards = [name for name in found if _SHARD.fullmatch(name)]
    return [*shards, _INDEX] if shards and _INDEX in found else []


def setting_files(names: Iterable[str]) -> list[str]:
    """Config, tokenizer, chat template and image settings: root-level text and vocabularies."""
    found = (name for name in names if _SETTINGS.fullmatch(name))
    return sorted(name for name in found if not _FOREIGN.fullmatch(name))


class HuggingFaceHub:
    """The hub itself, through its client."""

    def files(self, model: str, revision: str | None) -> Revision:
        """See :class:`Hub`.

        Raises:
            StudyError: the model is not there, not open to this account, or there is no network.
        """
        from huggingface_hub import HfApi

        with _sentences(model, revision):
            info = HfApi().model_info(model, revision=revision, files_metadata=True)
        sizes = {file.rfilename: int(file.size or 0) for file in info.siblings or []}
        return Revision(str(info.sha), sizes)

    def converted(self, model: str) -> str | None:
        """See :class:`Hub`; a pull request of anybody else is not looked at."""
        from huggingface_hub import HfApi

        with _sentences(model, None):
            requests = HfApi().get_repo_discussions(
                model, author=_CONVERTER, discussion_type="pull_request"
            )
            for request in requests:
                if request.author == _CONVERTER and request.git_reference:
                    return str(request.git_reference)
        return None

    def download(self, model: str, revision: str | None, names: list[str]) -> Path:
        """See :class:`Hub`."""
        from huggingface_hub import snapshot_download

        with _sentences(model, revision):
            return Path(snapshot_download(model, revision=revision, allow_patterns=names))


@contextmanager
def _sentences(model: str, revision: str | None) -> Iterator[None]:
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # The client's connection errors derive from the class above its own, under changing names.
    connection: Any = HfHubHTTPError.__bases__[0]
    try:
        yield
    except GatedRepoError:
        raise StudyError(
            f"{model}: its owner asks for consent; accept the terms on "
            f"https://huggingface.co/{model}, then run: hf auth login"
        ) from None
    except RepositoryNotFoundError:
        raise StudyError(
            f"{model}: the hub has no such model, or not for this account; expected the id of a "
            "public model, or one that you can see after: hf auth login"
        ) from None
    except RevisionNotFoundError:
        raise StudyError(f"{model}: the hub has no revision {revision} of it.") from None
    except (OSError, ValueError, connection) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StudyError(f"{model}: the hub cannot be reached ({first}).") from None
