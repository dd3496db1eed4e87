"""`automateos doctor`: whether this machine and the stack on it are well."""

from deploy.commands.here import Asked, Json


async def doctor(*, as_json: Json = False, here: Asked) -> int:
    """Look at the machine, the data directory and the running stack. Exit code 1 when something is not well."""
    from deploy.operator.checkup import findings

    well = True
    async for finding in findings(here):
        well = well and finding.level != "bad"
        if as_json:
            here.tell(finding)
        else:
            here.say(f"{finding.level:<5} {finding.what}")
    return 0 if well else 1
