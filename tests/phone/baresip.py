"""baresip as a caller: a softphone with its own SIP stack and media, which shares no code with ours."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

from sipagent.asterisk.conf import AsteriskConfig
from sipagent.asterisk.root import Root
from sipagent.audio import read_wav, write_wav

RATE_HZ = 8000
GRACE_S = 12


def _configure(folder: Path, modules: Path, config: AsteriskConfig, say: bytes) -> None:
    (folder / "say.wav").write_bytes(write_wav(say, RATE_HZ))
    (folder / "config").write_text(
        f"module_path {modules}\nmodule account.so\nmodule g711.so\nmodule aufile.so\nmodule menu.so\nmodule stdio.so\n"
        f"net_interface 127.0.0.1\nsip_listen 127.0.0.1:0\naudio_source aufile,{folder}/say.wav\n"
        f"audio_player aufile,{folder}/heard.wav\nausrc_srate {RATE_HZ}\nauplay_srate {RATE_HZ}\n"
        "rtp_ports 33000-35000\n"
    )
    (folder / "accounts").write_text(
        f"<sip:{config.phone_user}@127.0.0.1:{config.sip_port}>;auth_pass={config.phone_password}"
        ";audio_codecs=PCMA;regint=0\n"
    )
    for name in ("contacts", "current_contact"):
        (folder / name).touch()


async def call(root: Root, config: AsteriskConfig, folder: Path, number: str, say: bytes, seconds: int) -> bytes:
    """Call a number by A-law, play PCM at 8000 Hz, hang up after `seconds`; PCM of what was heard."""
    _configure(folder, root.baresip_modules, config, say)
    process = await asyncio.create_subprocess_exec(
        *root.command("baresip"), "-f", str(folder), "-t", str(seconds),
        "-e", f"/dial sip:{number}@127.0.0.1:{config.sip_port}",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(seconds + GRACE_S):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = output.decode(errors="replace")
    assert "Call established" in text, text
    heard = folder / "heard.wav"
    assert heard.exists(), text
    pcm, rate_hz = read_wav(heard.read_bytes())
    assert rate_hz == RATE_HZ
    return pcm
