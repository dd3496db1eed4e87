"""`automateos approvals`: what runs ask people, and deciding it."""

from typing import Annotated, Any, Final, Literal

from cyclopts import App, Parameter

from deploy.commands.here import Asked, Json, KeyFile, Run
from deploy.refusals import Refused

app = App(name="approvals", help="What runs ask people, and deciding it.")

_SAID: Final = {
    "accepted": "decided",
    "unchanged": "had been decided so by you before",
    "queued": "will be decided: the run's owner is away",
}


@app.command(name="list")
def list_(
    *,
    workflow: str | None = None,
    limit: int = 20,
    key_file: KeyFile = None,
    as_json: Json = False,
    here: Asked,
) -> None:
    """List the questions that nobody has decided yet, the newest first."""
    from deploy.operator.reach import api

    found = api(here, key_file).pages("/approvals", limit, workflow=workflow)
    here.show(
        found,
        ("RUN", "STEP", "ASKED", "UNTIL", "QUESTION"),
        lambda each: (
            each["run"],
            each["step"],
            each["asked"][:19],
            (each["due"] or "")[:19],
            each["question"][:80],
        ),
        as_json=as_json,
    )


@app.command
def decide(  # noqa: PLR0913  # Each is an option of the command line.
    run: Run,
    decision: Annotated[Literal["approve", "reject"], Parameter(help="What you decide.")],
    *,
    step: Annotated[
        str | None, Parameter(help="The step that asks, where several steps of the run do.")
    ] = None,
    fields: Annotated[str, Parameter(help="What the form asks for, as a JSON object.")] = "{}",
    comment: Annotated[str, Parameter(help="Why; it is kept with the decision.")] = "",
    key_file: KeyFile = None,
    as_json: Json = False,
    here: Asked,
) -> None:
    """Approve or reject what a run asks. The first decision counts."""
    from msgspec import Raw

    from contracts.codec import Malformed, decode_json
    from deploy.operator.reach import api

    try:
        filled: Any = decode_json(fields.encode())
    except Malformed as malformed:
        raise Refused(f"The fields are no JSON: {malformed}.") from malformed
    if not isinstance(filled, dict):
        raise Refused("The fields are no JSON object.")
    verdict = {"approve": "approved", "reject": "rejected"}[decision]
    wish = {"decision": verdict, "step": step, "fields": Raw(fields.encode()), "comment": comment}
    told = api(here, key_file).post(f"/approvals/{run}/decide", wish)
    if as_json:
        here.tell(told)
    else:
        here.say(f"{run}  {told['step']} {told['decision']}: {_SAID[told['status']]}")
