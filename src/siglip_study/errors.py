"""The one exception a user is meant to see."""


class StudyError(Exception):
    """A mistake the user can mend.

    The message is one sentence that names the file or key, what was found, and what was expected.
    Scripts print it without a traceback; anything else that escapes is a defect of this project.
    """
