"""How a rule says no."""

from contracts.errors import ERRORS


class Rejected(Exception):
    """A command that the state of its aggregate does not allow. The code is one of `contracts.errors`."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(detail or ERRORS[code].meaning)
        self.code = code
        self.detail = detail


def absent(what: str) -> Rejected:
    """The same answer for what never was, what is gone, and what belongs to somebody else."""
    return Rejected("not_found", f"There is no such {what}.")
