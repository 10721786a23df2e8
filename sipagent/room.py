"""Where a caller is with us: bridge, media channel, RTP socket, and the queue of all they hear.

Made when there is something to say or to hear, undone when the caller goes elsewhere (a queue, a mailbox,
another phone) and made anew when they come back. What is spoken here without the model comes from the prompt
cache, one phrase after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack

import structlog

from sipagent import model
from sipagent.ari.objects import BridgeHandle, ChannelHandle, external_media, mixing_bridge
from sipagent.audio import PTIME_MS, Law
from sipagent.barge_in import BargeIn
from sipagent.config import BargeInSettings
from sipagent.errors import ConfigError
from sipagent.flow.phrases import Phrase
from sipagent.house import House
from sipagent.media import LOOP, MediaBridge
from sipagent.recording import Recording
from sipagent.rtp import quality
from sipagent.rtp.session import RtpSession

log = structlog.get_logger()

PROMPT = "prompt:"
ANNOUNCEMENT = PROMPT + "recording"
"""Item ids of what is not the model's; the model knows nothing of them."""

NOBODY = BargeInSettings(enabled=False)
"""Who speaks over a prompt does not stop it; a key does."""


class Room:
    """One stay of one caller. `open` it, `let_in` the caller, `close` it."""

    def __init__(self, law: Law, house: House, recording: Recording | None = None) -> None:
        self.law = law
        self.recording = recording or Recording.of_nobody()
        """Of this call; also there, and never on, in a room that nobody records."""
        self.rtp = RtpSession(law.payload_type, order_buffer_ms=house.settings.media.order_buffer_ms)
        self.media = MediaBridge(law, self.rtp, house.wheel, BargeIn(law, NOBODY), time.monotonic)
        self._house = house
        self._undo, self._undo_media = AsyncExitStack(), AsyncExitStack()
        self._bridge: BridgeHandle | None = None
        self._call_id = ""
        self._let_in = False
        self._over = False
        """Nothing is heard or said here any more."""
        self._loop: object = None
        """Which loop is played, if one is."""

    @property
    def is_open(self) -> bool:
        """There is a bridge to come into."""
        return self._bridge is not None

    async def open(self, call_id: str) -> None:
        """Ready for the caller: audio flows as soon as they are let in. Nothing happens when it is open.

        Raises:
            AriError: Asterisk refuses; NoPortFree: too many calls. Nothing is left of it then.
        """
        if self._bridge is not None:
            return
        self._call_id = call_id
        try:
            self._bridge = await self._undo.enter_async_context(mixing_bridge(self._house.ari, call_id))
            await self._open_media(self._bridge)
        except BaseException:  # cancelled as well as failed: what was made goes
            await self.close()
            raise

    async def renew_media(self) -> None:
        """A new media channel in the place of one that brings nothing; what is being said goes on.

        Raises:
            AriError: Asterisk refuses; NoPortFree: too many calls.
        """
        if self._bridge is not None:
            self.media.detach()
            await self._undo_media.aclose()
            await self._open_media(self._bridge)

    async def _open_media(self, bridge: BridgeHandle) -> None:
        house = self._house
        socket = house.ports.open(self.media.on_datagram)
        self._undo_media.callback(house.ports.release, socket)
        external = await self._undo_media.enter_async_context(
            external_media(
                house.ari,
                self._call_id,
                host=house.settings.media.address,
                port=socket.port,
                audio_format=self.law,
                variables={"SIPAGENT_CALL": self._call_id},
            )
        )
        self.media.start(socket, external.address)
        await bridge.add(external.channel)

    async def let_in(self, caller: ChannelHandle, *, again: bool = False) -> None:
        """The caller hears and is heard from now on; `again` after they were elsewhere."""
        if self._bridge is not None and (again or not self._let_in):
            self._let_in = True
            await self._bridge.add(caller)

    async def close(self) -> None:
        """Nothing is left of it; twice is fine."""
        await self._leave_media()
        await self._undo.aclose()

    async def _leave_media(self) -> None:
        self._over = True
        self.stop_loop()
        self.recording.end()
        self.media.stop()
        self.media.flush()  # nobody waits for the end of what is not played any more
        await self._undo_media.aclose()

    def interruptible_by(self, settings: BargeInSettings) -> None:
        """Who speaks over what is played is let in, or not, as this says."""
        self.media.barge_in = BargeIn(self.law, settings)

    # --- recording

    async def record(self) -> None:
        """Begin to record, if that is wanted and not so yet: when the caller has been told, to the last word.

        A call whose announcement cannot be spoken goes on without being recorded.
        """
        recording, settings = self.recording, self._house.settings
        if not recording.due:
            return
        if settings.recording.announcement and not recording.announced:
            try:
                recording.announcing = True
                await self._announce(Phrase(settings.recording.announcement, settings.call.language))
            except ConfigError as error:
                recording.wanted = False
                log.error("not_recorded", error=str(error))
                return
            finally:
                recording.announcing = False
            if self._over:
                return
        recording.announced = True
        recording.begin(self.media, self.law)

    async def _announce(self, phrase: Phrase) -> None:
        """Whatever noise the caller makes, they hear it; nobody takes it for something the agent says."""
        media, g711 = self.media, self._house.policy.prompts.get(phrase, self.law)
        media.sealed += 1
        try:
            media.play(ANNOUNCEMENT, g711)
            media.play_end(ANNOUNCEMENT)
            # Not until it is quiet: what the model says to a caller who spoke over it belongs into the recording.
            while media.queue.holds(ANNOUNCEMENT):  # noqa: ASYNC110 - for two seconds of a call
                await asyncio.sleep(PTIME_MS / 1000)
        finally:
            media.sealed -= 1

    # --- prompts

    def play(self, phrases: Iterable[Phrase]) -> None:
        """Speak phrases after what is being played."""
        item_id = ""
        for phrase in phrases:
            item_id = PROMPT + phrase.text[:16]
            self.media.play(item_id, self._house.policy.prompts.get(phrase, self.law))
        self.media.play_end(item_id or None)

    @contextlib.contextmanager
    def looping(self, g711: bytes) -> Iterator[None]:
        """Play this over and over, to a caller who waits: for the block, or until `stop_loop` or another one's loop.

        Whoever minds the silence is not disturbed by it.
        """
        self.stop_loop()
        mine = self._loop = object()
        self.media.sealed += 1
        self.media.loop = g711
        self.media.play(LOOP, g711)
        self.media.play_end(LOOP)
        try:
            yield
        finally:
            if self._loop is mine:
                self.stop_loop()

    def stop_loop(self) -> None:
        """Silence, where somebody's loop is played."""
        if self._loop is not None:
            self._loop, self.media.loop = None, b""
            self.media.sealed -= 1
            self.media.flush()

    async def admit(self, *others: ChannelHandle) -> None:
        """Somebody comes in beside us and the caller: all hear each other (Asterisk mixes from three on)."""
        if self._bridge is not None:
            await self._bridge.add(*others)

    async def join(self, other: ChannelHandle) -> None:
        """Somebody else takes our place: caller and they hear each other, and we nobody any more."""
        await self._leave_media()
        if self._bridge is not None:
            await self._bridge.add(other)

    # --- how it was

    def quality(self, rtt_ms: float | None) -> model.LegQuality:
        """What we got of the caller; Asterisk hands the packets on as they come, so it is both legs."""
        return quality.from_counters(self.rtp.counters, self.rtp.jitter_ms, rtt_ms=rtt_ms)

    def counters(self) -> dict[str, int]:
        """Of the RTP leg and the queue."""
        counted = {f"rtp_{name}": value for name, value in self.rtp.counters.as_dict().items()}
        return counted | {"playout_overflow_ms": self.media.queue.overflow_ms}
