"""Sends a command to a Redis server, or several as one, through the egress guard."""

import asyncio
import re
from typing import Annotated, Any, ClassVar, Final

from msgspec import Meta, Struct

from chassis.egress import REDIS_PORTS, Credential
from chassis.secret import BasicSecret, TextSecret
from contracts.limits import DATABASE_ARGUMENTS, DATABASE_BYTES, DATABASE_STATEMENTS, MIB, STRING_BYTES
from contracts.nodes import NodeSpec, Repeat
from executor.answers import scalar
from executor.errors import BadConfig, Refused, StepError, TookTooLong, Unreachable
from executor.forms import form
from executor.node import Context, Result, SecretField
from executor.redis_commands import READS, REFUSED
from executor.resp import Garbled, Replies, Said, command
from executor.wires import Place, Wire, wired

_SENTENCES: Final = re.compile(
    r"value is not an integer or out of range|value is not a valid float|syntax error|no such key|index out of range"
    r"|hash value is not an? \w+|Operation against a key holding the wrong kind of value|DB index is out of range"
    r"|wrong number of arguments for '[\w.|-]+' command|increment or decrement would overflow"
)
"""What Redis says that no value of the caller's can be part of."""
_AGAIN: Final = frozenset({"BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "NOREPLICAS", "TRYAGAIN", "OOM"})
_OLD: Final = frozenset({"ERR", "NOPROTO"})

Argument = Annotated[str, Meta(max_length=STRING_BYTES)] | int | float | bool
CommandName = Annotated[
    str,
    Meta(
        title="Command",
        description="As `GET`, `HSET` or `JSON.GET`.",
        pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,31}$",
        extra_json_schema={"x-expression": "none"},
    ),
]
Arguments = Annotated[tuple[Argument, ...], Meta(title="Arguments", max_length=DATABASE_ARGUMENTS)]


class Command(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    command: CommandName
    arguments: Arguments = ()


class RedisCommand(Place, frozen=True, kw_only=True, forbid_unknown_fields=True):
    port: Annotated[int, Meta(title="Port", ge=1, le=65_535)] = 6379
    database: Annotated[int, Meta(title="Database", description="Its number.", ge=0, le=10_000)] = 0
    auth: Annotated[
        SecretField,
        Meta(
            title="Account",
            description="A secret of the kind `basic` (user and password) or `text` (a password); goes only to the hosts that "
            "it allows.",
        ),
    ] = None
    command: CommandName
    arguments: Arguments = ()
    then: Annotated[
        tuple[Command, ...],
        Meta(
            title="Further commands",
            description="Together with the first as one (MULTI): nobody's command comes between them.",
            max_length=DATABASE_STATEMENTS - 1,
        ),
    ] = ()
    max_bytes: Annotated[
        int, Meta(title="Largest reply", description="In bytes, all together.", ge=1, le=DATABASE_BYTES)
    ] = 1 * MIB
    timeout_s: Annotated[float, Meta(title="Timeout", description="Seconds.", gt=0, le=300)] = 10.0


class RedisCommandNode:
    """Commands that only read repeat without asking; any other leaves doubt when no reply came."""

    spec: ClassVar = NodeSpec(
        type="redis.command",
        title="Redis",
        help="Sends a command and hands on its reply: texts, numbers, lists, objects. Bytes that are no text come as Base64, and "
        "numbers too big for JSON as texts.",
        icon="layers",
        category="Databases",
        repeat="no",
        config=form(RedisCommand),
        timeout_s=600,
    )
    config: ClassVar = RedisCommand

    def repeat(self, config: RedisCommand) -> Repeat:
        return "yes" if all(each.command.upper() in READS for each in _commands(config)) else "no"

    async def run(self, config: RedisCommand, context: Context) -> Result:
        sent = [_written(each, place) for place, each in enumerate(_commands(config))]
        credential = await context.open(config.auth) if config.auth else None
        talk = _Talk(config, context, credential)
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(config.timeout_s):
                replies = await talk.about(sent)
        except TimeoutError:
            raise TookTooLong("The server did not reply in time.", touched=talk.begun) from None
        except (OSError, EOFError) as error:
            raise Unreachable("The line to the server broke.", touched=talk.begun) from error
        except Garbled:
            raise Unreachable("What answers there is no Redis server.", touched=talk.begun) from None
        took = round((asyncio.get_running_loop().time() - began) * 1000)
        context.log("replied", commands=len(replies), ms=took)
        return Result(output={"reply": replies[0]} | ({"then": replies[1:]} if config.then else {}))


class _Talk:
    """One command, or several as one."""

    def __init__(self, config: RedisCommand, context: Context, credential: Credential | None) -> None:
        self._config, self._context, self._credential = config, context, credential
        self._account = _account(credential)
        self.begun = False

    async def about(self, sent: list[bytes]) -> list[Any]:
        wire = await wired(
            self._context.egress,
            self._config,
            self._config.port,
            usual=REDIS_PORTS,
            credential=self._credential,
        )
        try:
            replies = Replies(wire.reader, self._config.max_bytes + 4_096)
            await self._greet(wire, replies)
            async with self._context.effect():
                self.begun = True
                return await self._exchange(wire, replies, sent)
        finally:
            wire.writer.transport.abort()

    async def _greet(self, wire: Wire, replies: Replies) -> None:
        """Say who speaks; in the newer tongue, where the server knows it."""
        user, password = self._account or (b"", b"")
        who = (b"AUTH", user or b"default", password) if self._account else ()
        wire.writer.write(command(b"HELLO", b"3", *who))
        said = await replies.next()
        if isinstance(said, Said) and said.code in _OLD and self._account:
            wire.writer.write(command(b"AUTH", *((user,) if user else ()), password))
            said = await replies.next()
        if isinstance(said, Said) and (self._account or said.code not in _OLD):
            raise Refused(f"The server does not let us in ({said.code}).", retryable=said.code in _AGAIN)
        if self._config.database:
            wire.writer.write(command(b"SELECT", b"%d" % self._config.database))
            if isinstance(said := await replies.next(), Said):
                raise _refusal(said, "/database")

    async def _exchange(self, wire: Wire, replies: Replies, sent: list[bytes]) -> list[Any]:
        together = len(sent) > 1
        lines = [command(b"MULTI"), *sent, command(b"EXEC")] if together else sent
        for line in lines:
            wire.writer.write(line)
            await wire.writer.drain()
        said = [await replies.next() for _ in lines]
        for place, each in enumerate(said[1:-1] if together else said):
            if isinstance(each, Said):  # Not even queued: none of them was carried out.
                raise _refusal(each, _at(place))
        if not together:
            return said
        if isinstance(said[-1], Said) or not isinstance(said[-1], list):
            raise _refusal(said[-1] if isinstance(said[-1], Said) else Said("EXECABORT"), "")
        for place, each in enumerate(said[-1]):
            if isinstance(each, Said):  # The others hold: Redis takes nothing back.
                raise _refusal(each, _at(place))
        done: list[Any] = said[-1]
        return done


def _commands(config: RedisCommand) -> tuple[Command, ...]:
    return (Command(command=config.command, arguments=config.arguments), *config.then)


def _at(place: int) -> str:
    return f"/then/{place - 1}/command" if place else "/command"


def _written(each: Command, place: int) -> bytes:
    """The command as it is sent. Raises `BadConfig` for one that this node does not send."""
    name = each.command.upper()
    words = [scalar(argument) for argument in each.arguments]
    if name in REFUSED:
        other = " Use SCAN." if name == "KEYS" else ""
        raise BadConfig(
            f"{name} waits, holds up others or administrates the server, so it is not sent.{other}",
            field=_at(place),
        )
    if name in ("XREAD", "XREADGROUP") and any(word.upper() == "BLOCK" for word in words):
        raise BadConfig("A node does not wait for entries: leave BLOCK out.", field=_at(place))
    return command(name.encode(), *(word.encode("utf-8", "replace") for word in words))


def _account(credential: Credential | None) -> tuple[bytes, bytes] | None:
    match credential and credential.value:
        case None:
            return None
        case BasicSecret(user=user, password=password):
            return user.encode(), password.reveal()
        case TextSecret(text=text):
            return b"", text.reveal()
        case _:
            raise BadConfig("The secret is not of the kind `basic` or `text`.", field="/auth")


def _refusal(said: Said, field: str) -> StepError:
    known = _SENTENCES.search(said.text)
    words = f": {known[0]}" if known else ""
    return Refused(
        f"The server answered {said.code}{words}.", retryable=said.code in _AGAIN, field=field or None
    )


node = RedisCommandNode()
