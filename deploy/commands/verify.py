"""`automateos verify`: whether anything that was stored has been changed, removed, put in or moved since."""

from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from deploy.commands.here import ORG, Asked, Here, Json
from deploy.refusals import Refused

if TYPE_CHECKING:
    from deploy.operator.anchored import Finding
    from deploy.operator.verifying import Count, Verifying


async def verify(  # noqa: PLR0913  # Each is an option of the command line.
    *,
    run: Annotated[str | None, Parameter(help="One run.")] = None,
    day: Annotated[str | None, Parameter(help="What moved on a day (2026-11-20, UTC).")] = None,
    everything: Annotated[
        bool, Parameter(name="--all", negative="", help="Every commit of both stores, and every anchor.")
    ] = False,
    file: Annotated[
        Path | None, Parameter(help="An export (`automateos runs export`); needs no stack.")
    ] = None,
    public_key: Annotated[
        bool,
        Parameter(name="--public-key", negative="", help="Print the public key that belongs to the anchors."),
    ] = False,
    key: Annotated[
        tuple[Path, ...],
        Parameter(help="A public key that you kept; the one of this data directory by default."),
    ] = (),
    org: Annotated[str | None, Parameter(help="The run's org, or the only org of the day.")] = None,
    as_json: Json = False,
    here: Asked,
) -> int:
    """Tell every commit that is not as it was stored, in the log or in the archive. Exit code 1 when there is one."""
    if sum(map(bool, (run, day, everything, file, public_key))) != 1:
        raise Refused("Say one of --run, --day, --all, --file and --public-key.")
    if public_key:
        _say_public_key(here)
        return 0
    if file is not None:
        return _verify_file(file, key, here, as_json=as_json)
    return await _verify_stores(here, (run, day, org), key, as_json=as_json)


def _say_public_key(here: Here) -> None:
    from deploy.operator import public_key

    here.say(public_key.pem(public_key.public_of(_signing_key(here))).rstrip())


def _signing_key(here: Here) -> Path:
    return here.data_dir() / "secrets" / "signing.key"


def _verify_file(file: Path, keys: tuple[Path, ...], here: Here, *, as_json: bool) -> int:
    from deploy.operator import exports, public_key

    if len(keys) != 1:
        raise Refused(
            "Name the public key with --key: whoever wrote the file cannot say by which key it is right."
        )
    export = exports.read(file)
    checked = exports.checked(export, public_key.read(keys[0]))
    if as_json:
        here.tell({"file": checked, "whole": checked.whole})
    for line in [] if as_json else exports.told(checked, export):
        here.say(line)
    return 0 if checked.whole else 1


async def _verify_stores(
    here: Here, asked: tuple[str | None, str | None, str | None], keys: tuple[Path, ...], *, as_json: bool
) -> int:
    from chassis.clock import SystemClock
    from deploy.operator import public_key
    from deploy.operator.reach import LONG_SECONDS, stores
    from deploy.operator.truths import Retention
    from deploy.operator.verifying import Verifying

    settings = here.settings()
    public = [public_key.read(each) for each in keys] or [public_key.public_of(_signing_key(here))]
    days = Retention(log=settings.retention_days, archive=settings.archive_days)
    bad = 0
    async with stores(here, statement_seconds=LONG_SECONDS) as found:
        verifying = Verifying(found, public, SystemClock().now(), days)
        async for finding in _findings(verifying, *asked):
            bad += 1
            here.tell(finding) if as_json else here.say(_line(finding))
    count = verifying.count
    if as_json:
        here.tell({"findings": bad, "count": count})
    else:
        here.say(_sum(count, bad))
    return 1 if bad else 0


async def _findings(
    verifying: "Verifying", run: str | None, day: str | None, org: str | None
) -> "AsyncIterator[Finding]":
    for finding in await verifying.read_anchors():
        yield finding
    source = (
        verifying.of_run(org or ORG, run)
        if run is not None
        else verifying.of_day(_day(day), org or "")
        if day is not None
        else verifying.of_all()
    )
    async for finding in source:
        yield finding


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Refused(f"{text!r} is no day: say it as 2026-11-20.") from None


def _line(finding: "Finding") -> str:
    where = f"{finding.history}  " if finding.history else ""
    return f"{where}{finding.what}" + (f", {finding.interval}" if finding.interval else "")


def _sum(count: "Count", bad: int) -> str:
    looked = f"{count.histories} histories with {count.commits} commits and {count.anchors} anchors verified"
    return f"{looked}: " + (f"{bad} things are not as they were" if bad else "everything is as it was stored")
