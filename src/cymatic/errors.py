"""What cymatic says when something is wrong.

Each message is one sentence for a reader: what came, what was expected, what to do. The command line prints it on one
line and exits with 2, so anything raised here must make sense without a traceback.
"""


class Error(ValueError):
    """Anything a user can mend: a bad file, a bad prompt, a bad setting."""


class SoundError(Error):
    """A sound that can't be read, written or used."""


class PictureError(Error):
    """A picture that can't be read, written or used."""


class ModelError(Error):
    """A model folder, checkpoint or recipe that can't be used."""


class PromptError(Error):
    """A prompt that can't be understood."""


class TemporaryError(Error):
    """The folder for temporary files, which can't be written."""


class OutputError(Error):
    """A result that can't be written for a reason which no other result escapes: a full disk, a closed folder."""


class Cancelled(Error):
    """Raised by a callback between two steps of a long work, and passed on by it, to say that nobody waits for it."""


class Note(UserWarning):
    """Something worth knowing that stops nothing; the command line prints it on stderr, and no other warning."""
