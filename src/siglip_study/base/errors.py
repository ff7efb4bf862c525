"""The one exception a user is meant to see, and what others say."""


class StudyError(Exception):
    """A mistake the user can mend.

    The message is one sentence that names the file or key, what was found, and what was expected.
    Scripts print it without a traceback; anything else that escapes is a defect of this project.
    """


def first_line(error: BaseException) -> str:
    """What an exception says, without the advice that follows; its class where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether PyTorch found no room on a GPU; told by name, for importing it takes seconds."""
    return any(
        kind.__name__ == "OutOfMemoryError" and kind.__module__.split(".")[0] == "torch"
        for kind in type(error).__mro__
    )


class ClipError(Exception):
    """A clip cannot be used; the message is the reason, ``kind: detail``."""
