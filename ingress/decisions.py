"""Decisions as people and programs write them, and what each is shown."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import parse_qsl

from msgspec import Raw, Struct, field

from chassis.asked import Asked, Standing
from chassis.edge.bodies import BodyDecoder
from chassis.edge.problems import CONTENT_TYPE, Complaint, Problem, problem_body
from chassis.forms import complaints, read
from chassis.ids import digest
from contracts.codec import encode
from contracts.limits import ANSWER_BYTES, COMMENT_CHARS, FORM_FIELDS
from contracts.payloads import Inline, Payload
from contracts.runs import ApprovalDecided
from contracts.waits import Approval, Verdict
from ingress import form_page
from ingress.bodies import gathered
from ingress.deliveries import Request, query_of
from ingress.replies import Reply

Outcome: TypeAlias = Literal["accepted", "unchanged", "queued"]
"""`unchanged`: it was decided so before. `queued`: the run's owner is away and will hear it."""

_FORM: Final = "application/x-www-form-urlencoded"
_SENT_BYTES: Final = 4 * ANSWER_BYTES
"""As a browser writes it, a letter may have many bytes."""
_WORDS: Final[Mapping[str, str]] = {"approved": "Approve", "rejected": "Reject"}
DECISION, COMMENT = "the-decision", "the-comment"
"""Fields of ours on the page: no field of a form has such a name."""


class Shown(Struct, frozen=True, kw_only=True):
    """An approval as it stands."""

    approval: Approval
    told: Asked
    standing: Standing


class Decided(Struct, frozen=True, kw_only=True):
    """What somebody decided, as it was read."""

    decision: Verdict = "rejected"
    fields: Mapping[str, Any] = {}
    comment: str = ""
    complaints: Sequence[Complaint] = ()

    @property
    def payload(self) -> Payload:
        return Inline(value=Raw(encode(self.fields)))

    @property
    def request(self) -> str:
        """The hash of all that was said."""
        return digest(encode([self.decision, self.fields, self.comment]))


class _Sent(Struct, frozen=True, kw_only=True):
    decision: Verdict
    fields: dict[str, Any] = field(default_factory=dict)
    comment: str = ""


_sent: Final = BodyDecoder(_Sent)


def wants_page(request: Request) -> bool:
    """Whether a person looks at the answer."""
    if request.method == "POST":
        return request.headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM
    return "text/html" in request.headers.get("accept", "")


def read_decision(request: Request, approval: Approval) -> Decided:
    """From JSON or from the page; with what does not fit. Raises `Problem` for what is neither."""
    if len(request.body) > _SENT_BYTES:
        raise Problem("too_large", f"A decision has {_SENT_BYTES} bytes at the most.")
    if wants_page(request):
        return _checked(_from_page(request.body, approval), approval)
    sent = _sent(request.body)
    return _checked(Decided(decision=sent.decision, fields=sent.fields, comment=sent.comment), approval)


def _from_page(body: bytes, approval: Approval) -> Decided:
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=FORM_FIELDS
        )
    except (ValueError, UnicodeDecodeError):
        raise Problem("malformed", "The body is not a form.") from None
    sent = gathered(pairs)
    decision, comment = sent.get(DECISION), sent.get(COMMENT, "")
    fields = read(approval.form, sent)
    comment = comment if isinstance(comment, str) else ""
    if decision == "approved":
        return Decided(decision="approved", fields=fields, comment=comment)
    missing = Complaint(pointer="/decision", message="Approve or reject.")
    wrong = () if decision == "rejected" else (missing,)
    return Decided(decision="rejected", fields=fields, comment=comment, complaints=wrong)


def _checked(decided: Decided, approval: Approval) -> Decided:
    found = [*decided.complaints, *complaints(approval.form, decided.fields, "/fields")]
    if len(decided.comment) > COMMENT_CHARS or "\0" in decided.comment:
        found.append(Complaint(pointer="/comment", message=f"This is a text of {COMMENT_CHARS} characters."))
    if len(encode(decided.fields)) > ANSWER_BYTES:
        found.append(Complaint(pointer="/fields", message=f"This has {ANSWER_BYTES} bytes at the most."))
    return Decided(
        decision=decided.decision, fields=decided.fields, comment=decided.comment, complaints=found
    )


# --- What is shown ----------------------------------------------------------------------------


def looked_at(request: Request, shown: Shown) -> Reply:
    """The approval for who only looks. Nothing is decided by it."""
    if not wants_page(request):
        return Reply(status=200, body=encode(_told(shown)))
    chosen = str(query_of(request.query).get("decision", ""))
    if shown.standing == "open":
        return _page(200, _asking(shown, Decided(), chosen))
    return _closed(200, shown)


def too_late(shown: Shown) -> Reply:
    """For a person whose decision does not count any more."""
    return _closed(409, shown)


def _closed(status: int, shown: Shown) -> Reply:
    return _page(status, form_page.page(shown.approval.question, form_page.paragraph(_over(shown))))


def wrong(request: Request, shown: Shown, decided: Decided) -> Reply:
    """What does not fit, beside the fields."""
    if wants_page(request):
        return _page(422, _asking(shown, decided, decided.decision))
    problem = Problem("approval.bad_fields", errors=decided.complaints)
    return Reply(status=422, body=problem_body(problem), content_type=CONTENT_TYPE)


def thanks(request: Request, shown: Shown, decided: Decided, outcome: Outcome) -> Reply:
    status = 202 if outcome == "queued" else 200
    if not wants_page(request):
        return Reply(status=status, body=encode({"decision": decided.decision, "status": outcome}))
    said = f"You {decided.decision} this. Thank you."
    if outcome == "queued":
        said += " It is kept and will be heard."
    return _page(status, form_page.page(shown.approval.question, form_page.paragraph(said)))


def not_open(code: str) -> Reply:
    """For a person who comes too early, or too late for anything to be shown."""
    early = code == "wait.not_open"
    title = "Nothing is asked yet" if early else "Nothing is asked any more"
    more = "Come again a little later." if early else "It was answered, or its time is over."
    return _page(409, form_page.page(title, form_page.paragraph(more)))


def _page(status: int, body: bytes) -> Reply:
    return Reply(
        status=status, body=body, content_type=form_page.CONTENT_TYPE, headers=dict(form_page.HEADERS)
    )


def _told(shown: Shown) -> dict[str, Any]:
    wait, answer = shown.told.wait, shown.told.answer
    told: dict[str, Any] = {
        "state": shown.standing,
        "question": shown.approval.question,
        "details": shown.approval.details,
        "form": shown.approval.form,
        "due": wait.due if wait else None,
    }
    if isinstance(answer, ApprovalDecided):
        told["decision"], told["decided"] = answer.decision, answer.on
    return told


def _over(shown: Shown) -> str:
    answer = shown.told.answer
    if isinstance(answer, ApprovalDecided):
        return f"This was {answer.decision} at {answer.on:%Y-%m-%d %H:%M} UTC. Nothing changes that any more."
    return "It is too late: nobody waits for this decision any more."


def _asking(shown: Shown, decided: Decided, chosen: str) -> bytes:
    approval, wait = shown.approval, shown.told.wait
    parts = [form_page.summary(decided.complaints)]
    if approval.details:
        parts.append(form_page.paragraph(approval.details, "details"))
    if wait is not None and wait.due is not None:
        parts.append(form_page.paragraph(f"Decide until {wait.due:%Y-%m-%d %H:%M} UTC.", "hint"))
    parts += [
        '<form method="post">',
        form_page.fields(approval.form, decided.fields, decided.complaints),
        form_page.choice(DECISION, "Your decision", _WORDS, chosen),
        form_page.text_area(COMMENT, "Comment (optional)", decided.comment, COMMENT_CHARS),
        '<button type="submit">Send</button></form>',
    ]
    return form_page.page(approval.question, *parts)
