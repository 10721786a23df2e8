"""The Asterisk that we run ourselves: what its configuration follows from, its life, its reload.

Apart from the node, since who starts only Asterisk need not wait for a control process to be imported.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from sipagent import tuning
from sipagent.asterisk import run as asterisk_run
from sipagent.asterisk import services, trunks
from sipagent.asterisk.conf import AsteriskConfig
from sipagent.asterisk.root import Root
from sipagent.asterisk.run import Asterisk
from sipagent.config import Settings


def asterisk_config(settings: Settings) -> AsteriskConfig:
    """What `sipagent asterisk up` runs, from the settings."""
    asterisk = settings.asterisk
    return AsteriskConfig(
        run_dir=(settings.run_dir / "asterisk").absolute(),
        ari_password=asterisk.password.get_secret_value(),
        phone_password=asterisk.phone_password.get_secret_value(),
        http_port=asterisk.http_port,
        sip_host=asterisk.sip_address,
        sip_port=asterisk.sip_port,
        rtp_ports=asterisk.rtp_ports,
        workers=max(settings.control.workers, 1),
        app=asterisk.app,
        ari_user=asterisk.username,
        phone_user=asterisk.phone_user,
        files=trunks.files(asterisk, settings.trunks) | services.files(settings),
        tls_port=asterisk.tls_port,
        ice=any(trunk.transport == "ws" for trunk in settings.trunks.values()),
    )


@contextlib.asynccontextmanager
async def asterisk(
    settings: Settings, root: Root, say: Callable[[str], None] = lambda _text: None
) -> AsyncIterator[Asterisk]:
    """A real Asterisk for the length of the block."""
    async with Asterisk(asterisk_config(settings), root) as server:
        if server.pid is not None:
            for refused in tuning.prioritise(server.pid, settings.asterisk):
                refused.tell()
        version = server.info.version if server.info else "?"
        say(f"Asterisk {version} is up, SIP on {settings.asterisk.sip_address}:{settings.asterisk.sip_port}")
        yield server


async def reload(root: Root, settings: Settings) -> str:
    """Have the Asterisk that runs from our run folder read its configuration anew; one elsewhere is its admin's.

    Returns what the operator should know: an Asterisk of ours that is away has not read it.
    """
    config = asterisk_config(settings)
    if asterisk_run.answers(config):
        await asterisk_run.reload(config, root)
    elif (config.etc / "asterisk.conf").exists():
        return f"no Asterisk answers at {config.socket_dir}: it gets trunks, queues and mailboxes when it starts"
    return ""
