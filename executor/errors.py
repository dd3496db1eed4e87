"""Why an attempt did not work. The class says whether trying again can help, the flag whether the world may know."""

from typing import Final

from chassis.egress import EgressError, Reason
from contracts.errors import ERRORS, Failure

_MESSAGE_CHARS: Final = 2_000
WITHHELD: Final = "What the node said of it is not told: a part of what it brings is marked as sensitive."
_ANSWERED: Final = frozenset[Reason]({"too_large", "bad_encoding", "bad_redirect", "too_many_redirects"})


class StepError(Exception):
    """The attempt failed."""

    code: str = "refused"
    retryable: bool = False

    def __init__(
        self,
        message: str = "",
        *,
        touched: bool = False,
        retryable: bool | None = None,
        retry_after_s: float | None = None,
        field: str | None = None,
        status: int | None = None,
    ) -> None:
        """Tell what went wrong in words for people; never put a value in that a secret may be part of.

        `touched`: the first byte had left and no answer came, so nobody knows whether the effect happened.
        `field`: a JSON pointer into the configuration. `status`: the other side's HTTP status.
        """
        super().__init__(message or type(self).__doc__)
        self.touched = touched
        self.retryable = type(self).retryable if retryable is None else retryable
        self.retry_after_s = retry_after_s
        self.field = field
        self.status = status


class Unreachable(StepError):
    """The other side did not answer."""

    code = "unreachable"
    retryable = True


class Refused(StepError):
    """The other side answered, and the answer is no."""

    code = "refused"


class NoMailServer(StepError):
    """No mail server is named for this instance: its admin sets AUTOMATEOS_SMTP_HOST."""

    code = "unreachable"


class BadConfig(StepError):
    """The node's configuration does not fit."""

    code = "workflow.bad_config"


class UnknownNode(StepError):
    """No node of this type is installed in this executor."""

    code = "workflow.unknown_node_type"
    retryable = True


class SecretMissing(StepError):
    """The secret does not exist or cannot be opened."""

    code = "secret.missing"


class PayloadMissing(StepError):
    """A stored value is no longer in the object store."""

    code = "payload.missing"


class TooLarge(StepError):
    """A value is larger than the limit."""

    code = "payload.too_large"


class TookTooLong(StepError):
    """The attempt did not end in time."""

    code = "attempt.timeout"
    retryable = True


class Crashed(StepError):
    """The node's code raised something that it did not declare."""

    code = "attempt.crashed"


class Unheard(StepError):
    """The call was begun before, and nobody knows how it ended."""

    code = "unreachable"


def withheld(error: StepError) -> StepError:
    """The same error without the node's own words: what is marked of its output may be among them, and nobody knows it."""
    kind = type(error).__doc__ or ""
    if str(error) != kind:
        error.args = (f"{kind} {WITHHELD}",)
    return error


def from_egress(error: EgressError, *, repeatable: bool) -> StepError:
    """What a call that brought no complete answer means for the attempt.

    An answer that came but cannot be kept is an answer: there is no doubt, but a call that must not be repeated blindly
    is not made again because of it.
    """
    answered = error.reason in _ANSWERED
    told = StepError(
        str(error),
        touched=error.touched and not answered,
        retryable=error.retryable and (repeatable or not answered),
    )
    told.code = error.code
    return told


def failure(error: StepError, node: str) -> Failure:
    """What the history says of an error: bounded, with a code from the public table and text that can be stored."""
    return Failure(
        code=error.code if error.code in ERRORS else StepError.code,
        message=str(error).encode("utf-8", "replace").decode()[:_MESSAGE_CHARS],
        retryable=error.retryable,
        node=node,
        field=error.field,
        status=error.status,
    )
