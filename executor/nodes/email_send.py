"""Sends a mail through the instance's mail server."""

import asyncio
import contextlib
import hashlib
import re
from collections.abc import Sequence
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as MAIL
from typing import Annotated, ClassVar, Final, TypeAlias

import aiosmtplib
from msgspec import Meta, Struct

from chassis.egress import Credential
from chassis.secret import SmtpSecret
from contracts.limits import MIB, Name
from contracts.nodes import NodeSpec
from executor.errors import BadConfig, NoMailServer, Refused, StepError, Unreachable
from executor.forms import form
from executor.node import Context, Result, SecretField

_MOST_RECIPIENTS: Final = 100
_MOST_CHARS: Final = 5 * MIB
_SECONDS: Final = 30.0
_PARTING_SECONDS: Final = 1.0
_TLS_PORT: Final = 465
_POLICY: Final = MAIL.clone(cte_type="7bit")
_ADDRESS: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[^\s@<>,;:\"\\\[\]()]{1,253}", re.ASCII)
_NAMED: Final = re.compile(r'\s*"?([^"<>]*?)"?\s*<([^<>]+)>\s*')
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_ENHANCED: Final = re.compile(r"\b[245]\.\d{1,3}\.\d{1,3}\b")

Addresses: TypeAlias = str | tuple[str, ...]


class Email(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    to: Annotated[
        Addresses, Meta(title="To", description="`ada@example.org`, `Ada <ada@example.org>`, or several.")
    ]
    cc: Annotated[Addresses, Meta(title="Cc")] = ()
    bcc: Annotated[Addresses, Meta(title="Bcc")] = ()
    reply_to: Annotated[Addresses, Meta(title="Reply to")] = ()
    from_name: Annotated[
        Name | None, Meta(title="Sender's name", description="Shown beside the instance's own address.")
    ] = None
    subject: Annotated[str, Meta(title="Subject", max_length=900)]
    text: Annotated[str, Meta(title="Text", max_length=_MOST_CHARS)] = ""
    html: Annotated[
        str,
        Meta(title="HTML", description="Shown in place of the text where it can be.", max_length=_MOST_CHARS),
    ] = ""
    auth: Annotated[
        SecretField,
        Meta(title="Account", description="At the instance's mail server, where it asks for one."),
    ] = None


class EmailSendNode:
    """A mail cannot be taken back, and sent twice it annoys: it is not repeated without asking."""

    spec: ClassVar = NodeSpec(
        type="email.send",
        title="Send email",
        help="Sends a mail through the mail server that this instance is set up with.",
        icon="mail",
        category="Messages",
        repeat="no",
        config=form(Email),
        timeout_s=120,
    )
    config: ClassVar = Email

    async def run(self, config: Email, context: Context) -> Result:
        message, recipients = compose(config, context)
        credential = await context.open(config.auth) if config.auth else None
        began = asyncio.get_running_loop().time()
        try:
            code = await _deliver(message, recipients, context, credential)
        except aiosmtplib.SMTPResponseException as answer:
            raise _refusal(answer) from answer
        took = round((asyncio.get_running_loop().time() - began) * 1000)
        context.log("The mail server took the mail.", code=code, recipients=len(recipients), ms=took)
        output = {
            "message_id": str(message["Message-ID"]),
            "recipients": len(recipients),
            "code": code,
        }
        return Result(output=output)


def compose(config: Email, context: Context) -> tuple[EmailMessage, list[str]]:
    """The mail, the same bytes at every attempt of a moment, and the addresses that it goes to."""
    to, cc, bcc = (
        addresses(value, name) for name, value in (("to", config.to), ("cc", config.cc), ("bcc", config.bcc))
    )
    recipients = list(dict.fromkeys(address.addr_spec for address in (*to, *cc, *bcc)))
    if not 1 <= len(recipients) <= _MOST_RECIPIENTS:
        raise BadConfig(f"A mail goes to 1 to {_MOST_RECIPIENTS} addresses.", field="/to")
    for name, text in (("subject", config.subject), ("from_name", config.from_name or "")):
        if _CONTROL.search(text):
            raise BadConfig("A line break or control character cannot stand here.", field=f"/{name}")
    [sender] = addresses(context.relay.sender, "from_name")
    name = hashlib.sha256(f"{context.task.org}\0{context.key}".encode()).hexdigest()[:40]
    message = EmailMessage(_POLICY)
    message["From"] = Address(config.from_name or sender.display_name, addr_spec=sender.addr_spec)
    message["To"] = to
    for header, listed in (("Cc", cc), ("Reply-To", addresses(config.reply_to, "reply_to"))):
        if listed:
            message[header] = listed
    message["Subject"] = config.subject
    message["Date"] = context.now
    message["Message-ID"] = f"<{name}@{sender.domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(config.text)
    if config.html:
        message.add_alternative(config.html, subtype="html")
        message.set_boundary(f"={name}=")
    return message, recipients


def addresses(value: Addresses, field: str) -> list[Address]:
    """Read addresses. What might be more than an address is refused, so that no header can be smuggled in."""
    entries = value.split(",") if isinstance(value, str) else value
    return [_address(entry, field) for entry in entries if entry.strip()]


def _address(entry: str, field: str) -> Address:
    named = _NAMED.fullmatch(entry)
    name, plain = (named[1], named[2].strip()) if named else ("", entry.strip())
    local, at, domain = plain.rpartition("@")
    try:
        plain = f"{local}{at}{domain.encode('idna').decode()}"
    except UnicodeError:
        plain = ""
    if not _ADDRESS.fullmatch(plain) or _CONTROL.search(entry):
        raise BadConfig("This is not a mail address.", field=f"/{field}")
    try:
        return Address(name, addr_spec=plain)
    except (ValueError, IndexError) as error:
        raise BadConfig("This is not a mail address.", field=f"/{field}") from error


async def _deliver(
    message: EmailMessage, recipients: Sequence[str], context: Context, credential: Credential | None
) -> int:
    """Hand the mail to the relay; its code of acceptance. Until DATA nothing is sent, whatever fails."""
    relay = context.relay
    if not relay.host:
        raise NoMailServer
    opened = await relay.connect(_SECONDS, credential)
    smtp = aiosmtplib.SMTP(
        hostname=relay.host,
        sock=opened.socket,
        timeout=_SECONDS,
        use_tls=relay.port == _TLS_PORT,
        local_hostname=str(message["From"].addresses[0].domain),
    )
    try:
        await _greet(smtp, credential, private=opened.address in ("127.0.0.1", "::1"))
        await smtp.mail(message["From"].addresses[0].addr_spec)
        for recipient in recipients:
            await smtp.rcpt(recipient)
        async with context.effect():
            answer = await _data(smtp, message.as_bytes())
    except (
        aiosmtplib.SMTPServerDisconnected,
        aiosmtplib.SMTPConnectError,
        aiosmtplib.SMTPTimeoutError,
    ) as error:
        raise Unreachable("The mail server did not answer.") from error
    else:
        with contextlib.suppress(aiosmtplib.SMTPException):
            await smtp.quit(timeout=_PARTING_SECONDS)  # The mail is accepted; how they part does not matter.
        return answer.code
    finally:
        smtp.close()
        opened.socket.close()


async def _greet(smtp: aiosmtplib.SMTP, credential: Credential | None, *, private: bool) -> None:
    """Connect, encrypt where the server can, sign in where it must."""
    await smtp.connect()
    if credential is None:
        return
    if not isinstance(credential.value, SmtpSecret):
        raise BadConfig("A secret of this kind is no mail account.", field="/auth")
    if smtp.get_transport_info("ssl_object") is None and not private:
        raise Refused("The mail server offers no encryption, so the password was not sent.")
    try:
        await smtp.login(credential.value.user, credential.value.password.reveal_text())
    except aiosmtplib.SMTPNotSupported as error:
        raise Refused("The mail server offers no way to sign in.") from error


async def _data(smtp: aiosmtplib.SMTP, message: bytes) -> aiosmtplib.SMTPResponse:
    try:
        return await smtp.data(message)
    except (aiosmtplib.SMTPServerDisconnected, aiosmtplib.SMTPTimeoutError) as error:
        raise Unreachable(
            "The mail server took the mail and did not say what became of it.", touched=True
        ) from error


def _refusal(answer: aiosmtplib.SMTPResponseException) -> StepError:
    # The server's own words may name people; its codes do not.
    enhanced = _ENHANCED.search(str(answer.message))
    code = f"{answer.code} {enhanced[0]}" if enhanced else str(answer.code)
    return Refused(f"The mail server answered {code}.", retryable=400 <= answer.code < 500)


node = EmailSendNode()
