"""The hub through its client: what is asked of it, and its refusals as one sentence each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siglip_study.base.errors import StudyError, first_line, is_full_disk

#: The account whose pull requests hold what the hub's own converter made of pickles.
_CONVERTER = "SFconvertbot"


@dataclass(frozen=True)
class Revision:
    """The files of a model at one commit: name → size in bytes."""

    commit: str
    sizes: Mapping[str, int]


class Hub:
    """The hub, through its client.

    Raises:
        StudyError: the model is not there, not open to this account, or there is no network.
    """

    def files(self, model: str, revision: str | None) -> Revision:
        """All files of a model at a revision (None: its main branch)."""
        from huggingface_hub import HfApi

        with _sentences(model, revision):
            info = HfApi().model_info(model, revision=revision, files_metadata=True)
        sizes = {file.rfilename: int(file.size or 0) for file in info.siblings or []}
        return Revision(str(info.sha), sizes)

    def converted(self, model: str) -> str | None:
        """The revision that holds the converter's safetensors; pull requests of others are not."""
        from huggingface_hub import HfApi

        with _sentences(model, None):
            requests = HfApi().get_repo_discussions(
                model, author=_CONVERTER, discussion_type="pull_request"
            )
            own = (r.git_reference for r in requests if r.author == _CONVERTER and r.git_reference)
            return next(own, None)

    def download(self, model: str, revision: str | None, names: Sequence[str]) -> Path:
        """Bring these files, or those that fit such patterns, into the local cache; their folder.

        Without a network the folder is the cache's, if it is whole.
        """
        from huggingface_hub import snapshot_download

        with _sentences(model, revision):
            found = snapshot_download(model, revision=revision, allow_patterns=list(names))
        return Path(found)

    def upload(
        self, folder: Path, model: str, names: Sequence[str], private: bool, message: str
    ) -> str:
        """Put the files of a folder that fit these patterns into a repository; the commit.

        The repository is made if it is not there. Of one that is there, ``private`` changes
        nothing, and files that this folder lacks stay.
        """
        from huggingface_hub import HfApi

        with _sentences(model, None):
            api = HfApi()
            repository = api.create_repo(model, private=private, exist_ok=True).repo_id
            done = api.upload_folder(
                repo_id=repository,
                folder_path=folder,
                allow_patterns=list(names),
                commit_message=message,
            )
        return str(done.oid)


@contextmanager
def _sentences(model: str, revision: str | None) -> Iterator[None]:
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # The client's connection errors derive from the class above its own, under changing names.
    connection: Any = HfHubHTTPError.__bases__[0]
    try:
        yield
    except HFValidationError:
        raise StudyError(f"{model}: no id of the hub; expected 'owner/name'.") from None
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
    except LocalEntryNotFoundError as error:
        raise StudyError(
            f"{model}: not whole in the local cache, and the hub cannot be reached "
            f"({first_line(error)})."
        ) from None
    except (OSError, ValueError, connection) as error:
        said = first_line(error)
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            raise StudyError(
                f"{model}: the hub refuses this account ({said}); expected a token that may do so, "
                "after: hf auth login"
            ) from None
        if status is not None:
            raise StudyError(
                f"{model}: the hub answers with an error ({said}); expected an answer: if it says "
                "so, the same command later."
            ) from None
        if is_full_disk(error):
            raise StudyError(
                f"{model}: no room for it ({said}); expected room in the local cache, which "
                "HF_HOME puts on another disk."
            ) from None
        raise StudyError(f"{model}: the hub cannot be reached ({said}).") from None
