"""Why something did not leave or no answer came back, and whether the world may have been touched."""

from typing import Final, Literal, NamedTuple, TypeAlias

Reason: TypeAlias = Literal[
    "bad_request",
    "secret_not_allowed",
    "forbidden",
    "unresolvable",
    "unreachable",
    "certificate",
    "tls",
    "busy",
    "timeout",
    "closed",
    "bad_answer",
    "bad_redirect",
    "too_many_redirects",
    "too_large",
    "bad_encoding",
]


class _Told(NamedTuple):
    text: str
    code: str
    retryable: bool


# One text, one code and one answer to "again?" for a name that does not exist, an address that is forbidden and a port
# that is closed: whoever writes workflows must not be able to map the network that we stand in.
_NOT_REACHED: Final = _Told(
    "The address could not be reached: there is no such host, nothing answers there,"
    " or this instance does not let workflows go there.",
    "unreachable",
    retryable=True,
)
_TOLD: Final[dict[Reason, _Told]] = {
    "bad_request": _Told("The request cannot be sent as it is.", "egress.forbidden", retryable=False),
    "secret_not_allowed": _Told(
        "The secret is bound to other hosts than the one that was called.",
        "secret.not_allowed",
        retryable=False,
    ),
    "forbidden": _NOT_REACHED,
    "unresolvable": _NOT_REACHED,
    "unreachable": _NOT_REACHED,
    "certificate": _Told(
        "The other side's certificate is not valid for its name.", "refused", retryable=False
    ),
    "tls": _Told("No encrypted connection came about.", "unreachable", retryable=True),
    "busy": _Told("Too many calls to this host are under way.", "unreachable", retryable=True),
    "timeout": _Told("The answer did not come in time.", "unreachable", retryable=True),
    "closed": _Told(
        "The other side closed the connection before its answer was complete.", "unreachable", retryable=True
    ),
    "bad_answer": _Told("The other side's answer is not HTTP.", "unreachable", retryable=True),
    "bad_redirect": _Told("The other side redirects to an address that is none.", "refused", retryable=False),
    "too_many_redirects": _Told("The other side redirects too often.", "refused", retryable=False),
    "too_large": _Told("The answer is larger than the limit.", "payload.too_large", retryable=False),
    "bad_encoding": _Told("The answer's compression is damaged.", "refused", retryable=True),
}


class EgressError(Exception):
    """No complete answer.

    `touched` says whether the first byte of a request may have left: only when it is False is it certain that the
    world did not change. The text and `code` are for everybody; `reason` and `detail` are for the operator's log.
    """

    def __init__(self, reason: Reason, *, touched: bool, detail: str = "") -> None:
        told = _TOLD[reason]
        super().__init__(f"{told.text} {detail}" if reason == "bad_request" and detail else told.text)
        self.reason: Reason = reason
        self.touched = touched
        self.detail = detail
        self.retryable = told.retryable
        self.code = told.code
        """From the table of public error codes."""


class CredentialNotAllowed(EgressError):
    """The credential is bound to other hosts. Nothing left."""

    def __init__(self, host: str) -> None:
        super().__init__("secret_not_allowed", touched=False, detail=host)
