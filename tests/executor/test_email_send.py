"""What the mail node sends, and when it leaves doubt; against a real SMTP server on 127.0.0.1."""

import asyncio
import email
import email.policy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import EmailMessage
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from chassis.secret import BearerSecret, Secret, SmtpSecret
from contracts.codec import decode_json
from contracts.messages import Outcome, StepBroken, StepDone, StepInDoubt
from contracts.payloads import Inline
from tests.executor.fakes import STEP, World, task, until


class Sink:
    """A mail server that keeps what it gets, and refuses or falls silent where it is told to."""

    def __init__(self) -> None:
        self.mails: list[Envelope] = []
        self.users: list[str] = []
        self.refuses: dict[str, str] = {}
        self.silent_at_data = False

    async def handle_MAIL(  # noqa: N802  # aiosmtpd's names.
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        envelope.mail_from = address
        return self.refuses.get("MAIL", "250 OK")

    async def handle_RCPT(  # noqa: N802  # aiosmtpd's names.
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        envelope.rcpt_tos.append(address)
        return self.refuses.get(address, "250 OK")

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802  # aiosmtpd's names.
        self.mails.append(envelope)
        if self.silent_at_data:
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        return self.refuses.get("DATA", "250 Taken")

    def signed_in(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _how: str, login: Any
    ) -> AuthResult:
        self.users.append(f"{login.login.decode()}:{login.password.decode()}")
        return AuthResult(success=login.password == b"pw", handled=False)

    def message(self) -> EmailMessage:
        [mail] = self.mails
        assert isinstance(mail.content, bytes)
        message = email.message_from_bytes(mail.content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        return message


@asynccontextmanager
async def sinking(sink: Sink) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()

    def protocol() -> SMTP:
        return SMTP(
            sink, authenticator=sink.signed_in, auth_require_tls=False, hostname="sink.test", loop=loop
        )

    server = await loop.create_server(protocol, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def attempted(sink: Sink, world: World | None = None, **config: Any) -> Outcome:
    """The outcome of one attempt to send a mail to the sink."""
    surroundings = world or World()
    config = {"to": "ada@example.org", "subject": "Hello", "text": "Hi.", **config}
    secrets = ("/auth",) if "auth" in config else ()
    async with sinking(sink) as port:
        surroundings.relay = ("127.0.0.1", port)
        async with surroundings.executor():
            surroundings.source.put(task(config, node_type="email.send", repeat="no", secrets=secrets))
            await until(lambda: surroundings.outcomes)
    return surroundings.outcomes[0]


async def test_a_mail_arrives_as_it_was_written() -> None:
    sink = Sink()

    outcome = await attempted(
        sink,
        to=["Ada Lovelace <ada@example.org>", "bob@example.org"],
        cc="carol@example.org, Dän <dan@bücher.example>",
        bcc="eve@example.org",
        reply_to="desk@example.org",
        from_name="Ops, Team",
        subject="Grüße an alle",
        text="Line one\n.\nFrom here: ünïcode\n",
        html="<p>Line <b>one</b></p>",
    )

    message = sink.message()
    assert sink.mails[0].mail_from == "robot@example.org"
    assert sink.mails[0].rcpt_tos == [
        "ada@example.org",
        "bob@example.org",
        "carol@example.org",
        "dan@xn--bcher-kva.example",
        "eve@example.org",
    ]
    assert message["From"] == '"Ops, Team" <robot@example.org>'
    assert message["To"] == "Ada Lovelace <ada@example.org>, bob@example.org"
    assert message["Cc"] == "carol@example.org, Dän <dan@xn--bcher-kva.example>"
    assert message["Bcc"] is None
    assert message["Reply-To"] == "desk@example.org"
    assert message["Subject"] == "Grüße an alle"
    assert message["Date"].datetime.year == 2026
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    assert text is not None
    assert html is not None
    assert text.get_content().splitlines() == ["Line one", ".", "From here: ünïcode"]
    assert html.get_content().strip() == "<p>Line <b>one</b></p>"
    assert isinstance(outcome, StepDone)
    assert isinstance(outcome.output, Inline)
    assert decode_json(outcome.output.value) == {
        "message_id": message["Message-ID"],
        "recipients": 5,
        "code": 250,
    }


async def test_every_attempt_at_a_step_has_the_same_message_id() -> None:
    names = []
    for _ in range(2):
        sink = Sink()
        await attempted(sink)
        names.append(sink.message()["Message-ID"])

    assert names[0] == names[1]
    assert names[0].endswith("@example.org>")


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"subject": "Hi\r\nBcc: eve@example.org"}, "/subject"),
        ({"subject": "Hi\nthere"}, "/subject"),
        ({"from_name": "Ada\r\nX: y"}, "/from_name"),
        ({"to": "ada@example.org\r\nBcc: eve@example.org"}, "/to"),
        ({"to": "Ada\n <ada@example.org>"}, "/to"),
        ({"to": "<a@b.c> <d@e.f>"}, "/to"),
        ({"to": "ada"}, "/to"),
        ({"to": "ada@"}, "/to"),
        ({"to": "@example.org"}, "/to"),
        ({"to": "a b@example.org"}, "/to"),
        ({"to": "ada@example.org>"}, "/to"),
        ({"cc": ["ada@exa mple.org"]}, "/cc"),
        ({"reply_to": "x@y\x00z"}, "/reply_to"),
        ({"to": ""}, "/to"),
        ({"to": [f"user{n}@example.org" for n in range(101)]}, "/to"),
    ],
)
async def test_nothing_can_be_smuggled_into_a_header(config: dict[str, Any], field: str) -> None:
    sink = Sink()

    outcome = await attempted(sink, **config)

    assert isinstance(outcome, StepBroken)
    assert (outcome.error.code, outcome.error.field, outcome.error.retryable) == (
        "workflow.bad_config",
        field,
        False,
    )
    assert not sink.mails


async def test_the_server_takes_the_password_of_a_secret_bound_to_it() -> None:
    sink, world = Sink(), World()
    world.safe.keep("s1", SmtpSecret(user="ada", password=Secret("pw")), "127.0.0.1")

    outcome = await attempted(sink, world, auth={"$secret": "s1"})

    assert isinstance(outcome, StepDone)
    assert sink.users == ["ada:pw"]


@pytest.mark.parametrize(
    ("value", "host", "code"),
    [
        (SmtpSecret(user="ada", password=Secret("pw")), "mail.example.org", "secret.not_allowed"),
        (SmtpSecret(user="ada", password=Secret("wrong")), "127.0.0.1", "refused"),
        (BearerSecret(token=Secret("x")), "127.0.0.1", "workflow.bad_config"),
    ],
)
async def test_a_secret_that_does_not_fit_sends_nothing(value: Any, host: str, code: str) -> None:
    sink, world = Sink(), World()
    world.safe.keep("s1", value, host)

    outcome = await attempted(sink, world, auth={"$secret": "s1"})

    assert isinstance(outcome, StepBroken)
    assert (outcome.error.code, outcome.error.retryable) == (code, False)
    assert not sink.mails


@pytest.mark.parametrize(
    ("at", "answer", "retryable"),
    [
        ("MAIL", "451 Come again", True),
        ("MAIL", "550 Never", False),
        ("bob@example.org", "550 5.1.1 No bob here", False),
        ("bob@example.org", "450 Busy", True),
        ("DATA", "554 5.6.0 Spam", False),
        ("DATA", "452 4.2.2 Full", True),
    ],
)
async def test_a_refusal_is_a_plain_failure(at: str, answer: str, retryable: bool) -> None:
    sink = Sink()
    sink.refuses[at] = answer

    outcome = await attempted(sink, to="ada@example.org, bob@example.org")

    assert isinstance(outcome, StepBroken)
    assert (outcome.error.code, outcome.error.retryable) == ("refused", retryable)
    assert answer[:3] in outcome.error.message
    assert "bob" not in outcome.error.message


async def test_a_mail_that_was_handed_over_without_an_answer_leaves_doubt() -> None:
    sink = Sink()
    sink.silent_at_data = True

    outcome = await attempted(sink)

    assert len(sink.mails) == 1
    assert isinstance(outcome, StepInDoubt)


async def test_a_mail_server_that_is_away_leaves_no_doubt() -> None:
    world = World()
    async with sinking(Sink()) as port:
        world.relay = ("127.0.0.1", port)
    async with world.executor():
        config = {"to": "ada@example.org", "subject": "Hello"}
        world.source.put(task(config, node_type="email.send", repeat="no"))
        await until(lambda: world.outcomes)

    [outcome] = world.outcomes
    assert isinstance(outcome, StepBroken)
    assert (outcome.error.code, outcome.error.retryable) == ("unreachable", True)
    assert len(world.ledger.stored) == 1, "our claim keeps everybody else from sending it now"


async def test_a_mail_is_claimed_before_it_is_handed_over() -> None:
    world = World()
    await attempted(Sink(), world)

    [claim] = world.ledger.stored
    assert claim.subject.startswith("effect.org_default.run-1.")
    assert STEP.encode() in claim.body


async def test_where_no_mail_server_is_named_the_attempt_fails_at_once_and_says_what_to_set() -> None:
    world = World()
    world.relay = ("", 587)
    config = {"to": "ada@example.org", "subject": "Hello", "text": "Hi."}
    async with world.executor():
        world.source.put(task(config, node_type="email.send", repeat="no"))
        await until(lambda: world.outcomes)
    [outcome] = world.outcomes
    assert isinstance(outcome, StepBroken)
    assert (outcome.error.code, outcome.error.retryable) == ("unreachable", False)
    assert "AUTOMATEOS_SMTP_HOST" in outcome.error.message
