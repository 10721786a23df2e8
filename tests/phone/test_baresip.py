"""An independent judge: baresip, a softphone with its own SIP stack and media, calls the echo.

What our own phone says of the configuration could be wrong twice in the same way; baresip shares no code
with it.
"""

from __future__ import annotations

import asyncio
import math
import struct
import subprocess
from pathlib import Path

import pytest

from sipagent.asterisk.root import Root
from sipagent.asterisk.run import Asterisk
from sipagent.audio import level_dbov, read_wav, write_wav

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

RATE_HZ = 8000
TIMEOUT_S = 15


def tone(seconds: float) -> bytes:
    samples = (int(12000 * math.sin(2 * math.pi * 440 * n / RATE_HZ)) for n in range(int(seconds * RATE_HZ)))
    return b"".join(struct.pack("<h", sample) for sample in samples)


def write_configuration(folder: Path, modules: Path, asterisk: Asterisk) -> None:
    config = asterisk.config
    (folder / "tone.wav").write_bytes(write_wav(tone(5), RATE_HZ))
    (folder / "config").write_text(
        f"module_path {modules}\nmodule account.so\nmodule g711.so\nmodule aufile.so\nmodule menu.so\nmodule stdio.so\n"
        f"net_interface 127.0.0.1\nsip_listen 127.0.0.1:0\naudio_source aufile,{folder}/tone.wav\n"
        f"audio_player aufile,{folder}/heard.wav\nausrc_srate {RATE_HZ}\nauplay_srate {RATE_HZ}\n"
        "rtp_ports 33000-35000\n"
    )
    (folder / "accounts").write_text(
        f"<sip:{config.phone_user}@127.0.0.1:{config.sip_port}>;auth_pass={config.phone_password}"
        ";audio_codecs=PCMA;regint=0\n"
    )
    for name in ("contacts", "current_contact"):
        (folder / name).touch()


async def test_baresip_hears_its_own_voice(baresip_root: Root, asterisk: Asterisk, tmp_path: Path) -> None:
    write_configuration(tmp_path, baresip_root.baresip_modules, asterisk)
    process = await asyncio.create_subprocess_exec(
        *baresip_root.command("baresip"), "-f", str(tmp_path), "-t", "4",
        "-e", f"/dial sip:600@127.0.0.1:{asterisk.config.sip_port}",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(TIMEOUT_S):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = output.decode(errors="replace")
    assert "Call established" in text, text
    heard = tmp_path / "heard.wav"
    assert heard.exists(), text
    pcm, rate_hz = read_wav(heard.read_bytes())
    assert rate_hz == RATE_HZ
    third = len(pcm) // 6 * 2
    middle = pcm[third : 2 * third]
    assert level_dbov(middle) == pytest.approx(level_dbov(tone(1)), abs=2)
