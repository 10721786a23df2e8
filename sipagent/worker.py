"""Composition root of a call worker: it does calls and nothing else.

Its loop paces audio every 20 ms, so no HTTP serving, no database, no disk and no console run in it. It
dials Asterisk, takes calls, sends CallEvents up the link and takes orders down. When the control
process is gone, calls go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import signal
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import msgspec
import structlog

from sipagent import model, orders, tuning
from sipagent.ari import events as ari_events
from sipagent.ari.client import AriClient
from sipagent.ari.objects import ChannelHandle
from sipagent.beforehand import keep_ready
from sipagent.call import Call
from sipagent.config import Settings
from sipagent.dialling import DialGuard
from sipagent.errors import AriError, ConfigError, SipAgentError
from sipagent.flow.machine import Plan
from sipagent.flow.phrases import Phrase, phrases_in_advance
from sipagent.flow.prompts import Prompts, current_folder
from sipagent.house import House, Policy
from sipagent.leg import refusal
from sipagent.limits import Gate
from sipagent.link import WorkerLink
from sipagent.observe import logs
from sipagent.observe.logs import EventLog
from sipagent.orders import Answer, WorkerState
from sipagent.orphans import Orphans
from sipagent.outbound import errand_of
from sipagent.outcome import CallOutcome, Reason
from sipagent.probe import probe
from sipagent.rtp.pacer import Wheel
from sipagent.rtp.transport import PacerTimer, PortBlock
from sipagent.sessions import Sessions
from sipagent.standby import Standby
from sipagent.tools.client import Toolbox
from sipagent.tools.toolset import Toolset, fillers
from sipagent.vitals import Vitals

log = structlog.get_logger()

OPERATOR = "operator"
NEXT_EXTENSION = ("sipagent", "next")
"""Where the dialplan tries the next worker (extensions.conf)."""
OTHERS = 6
"""Place of the argument of StasisStart that says how many workers have not been tried yet."""
LOOK_EVERY_S = 0.05
KNOWN_WITHIN_S = 1.0
"""Of a control process that runs; without one, calls are taken all the same."""
DRAIN_S = 2.0
"""SIGTERM: calls are told to end and given this long to clear up."""


class Worker:
    """Worker `number` (from 1) of `settings.control.workers`."""

    def __init__(
        self,
        settings: Settings,
        number: int,
        prompts: Prompts,
        listener: Callable[[orders.Upward], None],
        load: Callable[[], Settings] | None = None,
        record: Callable[[bytes], object] = lambda _block: None,
        run: str = "",
    ) -> None:
        """`listener` hears every event, and the answer to every order; `load` reads the configuration anew.

        `record` gets the blocks of recordings; `run` names this process.
        """
        loop = asyncio.get_running_loop()
        self.number = number
        self.accepting = True
        """New calls: those that are up go on with us while we drain, also those of a worker that has died."""
        self.ending = False
        self.abandoned = asyncio.Event()
        """We are to end at once, and leave our calls to others."""
        self.on_calls: Callable[[int], None] = lambda _calls: None
        """Told how many there are whenever one has begun or ended."""
        self._listener, self._load = listener, load or _from_nowhere
        self._log_event = EventLog(settings.log)
        self._reloading: asyncio.Task[None] | None = None
        self._calls: dict[str, tuple[Call, asyncio.Task[None]]] = {}
        self._kept: list[contextlib.AsyncExitStack] = []
        self._orphans = Orphans(self)
        self._asides: set[asyncio.Task[None]] = set()
        asterisk = settings.asterisk
        self.ari = AriClient(
            url=asterisk.url,
            app=f"{asterisk.app}-{number}",
            username=asterisk.username,
            password=asterisk.password.get_secret_value(),
            on_call=self.on_call,
            on_orphan=self._orphans.take,
        )
        self._vitals = Vitals()
        self.toolbox = Toolbox(settings.log)
        self.sessions = Sessions(listener, settings.control.workers)
        self.standby = Standby(self.sessions)
        self.pacer_wheel = wheel = Wheel(time.monotonic())
        self._timer = PacerTimer(wheel, loop)
        self.house = House(
            policy=Policy.of(settings, prompts),
            worker=number,
            ari=self.ari,
            ports=_port_block(settings, number),
            wheel=wheel,
            guard=DialGuard(settings.dial_policy, settings.control.workers),
            gate=Gate(settings.control.workers),
            emit=self._emit,
            record=record,
            run=run,
        )

    @property
    def calls(self) -> int:
        """Calls that live now."""
        return len(self._calls)

    async def run(self) -> None:
        """Take calls until cancelled; then end those that live and leave nothing behind."""
        try:
            self.house = replace(self.house, policy=await self._with_tools(self.house.policy))
        except BaseException:  # cancelled as well as failed: the toolbox is a process, and nobody else knows it yet
            await self.toolbox.aclose()
            self._timer.close()
            raise
        ari = asyncio.create_task(self.ari.run(), name="ari")
        looking = self.house.gate.watch(self.pacer_wheel.lateness, self.ari.answers, lambda: self.house.settings.limits)
        watch = asyncio.create_task(looking, name="load")
        self._stand_by()
        try:
            # Not `await ari`: cancelling us would cancel it, and the calls need it for their goodbye.
            await asyncio.wait({ari})
        finally:
            watch.cancel()
            self.standby.stop()
            await self._end_calls()
            await self.standby.aclose()
            ari.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ari
            await self.toolbox.aclose()
            self._timer.close()

    def state(self, events_dropped: int, blocks_dropped: int = 0) -> WorkerState:
        """For the control process; what its link had to drop: events, and blocks of recordings."""
        return WorkerState(
            asterisk_connected=self.ari.connected,
            asterisk_version=self.ari.version,
            accepting=self.accepting,
            calls=self.calls,
            events_dropped=events_dropped,
            pacing=self.pacer_wheel.lateness.read(),
            ari=self.ari.answers.read(),
            counts={
                "ari_reconnects": self.ari.counts["reconnects"],
                "ari_timeouts": self.ari.counts["request_timeouts"],
                "pacing_shifted_ms": self.pacer_wheel.shifted_ms,
                "orphans": self._orphans.seen,
                "toolbox_restarts": self.toolbox.restarts,
                "standby_taken": self.standby.counts["taken"],
                "standby_missed": self.standby.counts["missed"],
                "blocks_dropped": blocks_dropped,
                "log_lines_dropped": logs.lines_dropped(),
            },
            standby=self.standby.ready,
            **self._vitals.read(asyncio.get_running_loop().time()),
        )

    def obey(self, order: orders.Order | orders.SessionTold) -> None:
        """One order from the control process, whose answer goes up when it is done; or what we had asked for."""
        match order:
            case orders.SessionGranted() | orders.SessionPlace() | orders.SessionRecalled():
                self.sessions.told(order)
            case orders.HangUp():
                error = "no such call"
                if found := self._calls.get(order.call_id):
                    found[0].hang_up(CallOutcome(Reason.OPERATOR_HANGUP))
                    error = ""
                self._listener(Answer(order.id, error))
            case orders.PauseRecording() | orders.ResumeRecording():
                self._listener(Answer(order.id, self._pause(order)))
            case orders.Reload():
                self._reloading = asyncio.create_task(self._read_anew(order.id), name="reload")
            case orders.Originate():
                self._listener(Answer(order.id, self._call_out(order)))
            case orders.Drain():
                self.accepting = not order.on
                self._stand_by()
                log.info("draining" if order.on else "accepting", calls=self.calls)
                self._listener(Answer(order.id))
            case orders.Conclude():
                self._aside(self._conclude(order))
            case orders.Abandon():
                self._listener(Answer(order.id))
                self.abandoned.set()
            case orders.Adopt():
                self._aside(self._adopted(order))
            case orders.Tell() | orders.Supervise() | orders.Dismiss():
                self._aside(self._in_call(order))
            case orders.Probe():
                self._aside(self._probe(order))

    async def _pass_on(self, channel: ari_events.Channel) -> None:
        """We take no calls: another worker does, or the dialplan says that nobody can."""
        with contextlib.suppress(AriError):
            await ChannelHandle(self.ari, channel.id).continue_in(*NEXT_EXTENSION)

    def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        """An order that takes its time, beside the calls."""
        task = asyncio.create_task(work, name="order")
        self._asides.add(task)
        task.add_done_callback(self._asides.discard)

    async def _adopted(self, order: orders.Adopt) -> None:
        try:
            self._listener(Answer(order.id, detail=await self._orphans.adopt(order.worker, order.run)))
        except AriError as error:
            self._listener(Answer(order.id, str(error)))

    async def _probe(self, order: orders.Probe) -> None:
        """Call ourselves, and say how that was."""
        error = detail = ""
        if not self.accepting:
            error = "this worker takes no calls"
        elif not self.ari.connected:
            error = "Asterisk is away"
        else:
            structlog.contextvars.bind_contextvars(call_id=order.call_id)
            detail = msgspec.json.encode(await probe(order, self.house)).decode()
        self._listener(Answer(order.id, error, detail))

    def _call_out(self, order: orders.Originate) -> str:
        """Begin a call; why not, where it cannot even begin."""
        if order.expires_at and time.time() > order.expires_at:
            return "the order came too late: whoever gave it does not wait any more"
        if not self.accepting:
            return "this worker takes no calls"
        if not self.ari.connected:
            return "Asterisk is away"
        if order.agent not in self.house.settings.agents:
            return f"there is no agent {order.agent!r}"
        if not order.trunks:
            return "over which trunk? None was named"
        # Whoever asks is told at once; the call tells of it too, and ends.
        why = refusal(errand_of(order, order.trunks[0]), self.house)
        self.start(Call.outgoing(order, self.house), contextlib.nullcontext())
        return why

    async def _in_call(self, order: orders.Tell | orders.Supervise | orders.Dismiss) -> None:
        """The operator does something in a live call; a supervisor's phone may ring a while."""
        error = "no such call"
        if found := self._calls.get(order.call_id):
            call, error = found[0], ""
            try:
                match order:
                    case orders.Tell():
                        call.tell_agent(order.text, answer=order.answer)
                    case orders.Supervise():
                        await call.supervise(order.supervisor, order.how)
                    case orders.Dismiss():
                        await call.dismiss_supervisor()
            except SipAgentError as refusal:
                error = str(refusal)
        self._listener(Answer(order.id, error))

    def _pause(self, order: orders.PauseRecording | orders.ResumeRecording) -> str:
        found = self._calls.get(order.call_id)
        if found is None or not found[0].recording.wanted:
            return "this call is not recorded" if found else "no such call"
        found[0].pause_recording(OPERATOR, on=isinstance(order, orders.PauseRecording))
        return ""

    async def _read_anew(self, order_id: str) -> None:
        """New calls get the new policy; whatever is wrong with it leaves the old one in force."""
        error = ""
        try:
            # Reading takes tens of milliseconds, which the loop has not got.
            policy = await self._with_tools(await asyncio.to_thread(_policy, self._load))
            self.house = replace(self.house, policy=policy)
            self.house.guard.follow(policy.settings.dial_policy)
            self._stand_by()
            log.info("reloaded")
        except ConfigError as problem:
            error = str(problem)
            log.error("reload_refused", error=error)
        self._listener(Answer(order_id, error))

    def _stand_by(self) -> None:
        """Sessions for the next callers, if any are to come."""
        if self.accepting:
            self.standby.follow(self.house.settings.realtime, self.house.policy.ssl_context)
        else:
            self.standby.stop()

    async def _with_tools(self, policy: Policy) -> Policy:
        """The toolbox knows the tools of this policy, and says what they are; sessions are counted on."""
        settings = policy.settings
        toolset = Toolset(settings.tools, self.toolbox, await self.toolbox.configure(settings.tools, settings.folder))
        if settings.tools:
            await asyncio.to_thread(toolset.prepare)
        return replace(policy, toolset=toolset, sessions=self.sessions, standby=self.standby)

    def on_call(self, start: ari_events.StasisStart) -> None:
        """Somebody comes from the dialplan."""
        if start.args[:1] != ["in"]:  # a caller comes back from a queue to a worker that did not send them there
            self._orphans.take(start.channel, start.args)
            return
        busy = self.house.gate.load.too_much(self.house.settings.limits)
        # When nobody else is left to try, the caller is turned away by us, and there is a record of it.
        if not self.accepting or (busy and start.args[OTHERS:] > ["0"]):
            self._aside(self._pass_on(start.channel))
            return
        # In the step that read the event, so that nothing that happens to the channel is missed.
        listening = self.ari.listen(start.channel.id)
        self.start(Call.incoming(start, listening.__enter__(), self.house, busy), listening)

    def start(self, call: Call, listening: contextlib.AbstractContextManager[object]) -> None:
        """A call begins, or goes on, with us; `listening` to its channel ends with it."""
        task = asyncio.create_task(self._serve(call, listening), name=f"call-{call.id}")
        self._calls[call.id] = (call, task)
        self.on_calls(self.calls)

    async def _serve(self, call: Call, listening: contextlib.AbstractContextManager[object]) -> None:
        structlog.contextvars.bind_contextvars(call_id=call.id)
        with contextlib.ExitStack() as undo:
            undo.callback(self._calls.pop, call.id, None)
            undo.callback(listening.__exit__, None, None, None)
            await call.run()
        if self.ending:
            self._kept.append(call.kept)
        self.on_calls(self.calls)

    async def _conclude(self, order: orders.Conclude) -> None:
        """Nobody is to be with us much longer."""
        for call, _ in list(self._calls.values()):
            call.conclude()
        deadline = asyncio.get_running_loop().time() + order.within_s
        # Looked at now and then: what is waited for happens in many places.
        while (ours := self._with_us()) and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_EVERY_S)
        log.info("concluded", calls=self.calls, with_us=ours)
        self._listener(Answer(order.id, detail=str(ours)))

    def _with_us(self) -> int:
        return sum(not call.elsewhere for call, _ in self._calls.values())

    async def _end_calls(self) -> None:
        self.accepting, self.ending = False, True
        for aside in self._asides:
            aside.cancel()
        if self._asides:
            await asyncio.wait(self._asides, timeout=DRAIN_S)
        tasks = [task for _, task in self._calls.values()]
        for call, _ in list(self._calls.values()):
            call.leave()
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=DRAIN_S)
            for task in stuck:
                task.cancel()
            if stuck:
                await asyncio.wait(stuck, timeout=DRAIN_S)
                log.error("calls_cut", calls=len(stuck))

    def _emit(self, event: model.CallEvent) -> None:
        self._log_event(event)
        self._listener(event)


def _port_block(settings: Settings, number: int) -> PortBlock:
    """This worker's even share of the RTP ports."""
    first, last = settings.media.ports
    share = (last - first + 1) // max(settings.control.workers, 1)
    start = first + (number - 1) * share
    return PortBlock(settings.media.address, start, start + share - 1)


def _from_nowhere() -> Settings:
    raise ConfigError("this worker does not know where its configuration came from")


def _policy(load: Callable[[], Settings]) -> Policy:
    settings = load()
    prompts = Prompts(current_folder(settings.run_dir / "prompts"), settings.folder)
    prompts.load(needed_prompts(settings))
    policy = Policy.of(settings, prompts)
    policy.routes.look_ahead(dt.datetime.now(dt.UTC))
    return policy


def needed_prompts(settings: Settings) -> list[Phrase]:
    """Everything that must be spoken without the model."""
    call = settings.call
    announcement = settings.recording.announcement if settings.records_calls else ""
    texts = (
        call.apology,
        call.one_moment,
        call.not_heard,
        call.handover,
        settings.control.goodbye,
        call.warm_question,
        *([announcement] if announcement else []),
    )
    realtime = settings.realtime
    in_line = (realtime.waiting.say, realtime.waiting.place) if realtime.quotas and realtime.waiting else ()
    return [
        *(Phrase(text, call.language) for text in texts),
        *(phrase for text in in_line for phrase in phrases_in_advance(text, call.language, settings.variables)),
        *Plan(settings).phrases(),
        *fillers(settings.tools, call.language),
    ]


def _settle(settings: Settings, number: int) -> Callable[[int], None]:
    """What the operator wants this process to have of the machine; what it returns is to hear how many calls are up."""
    refusals = tuning.settle(settings.worker, number)
    for refused in refusals:
        refused.tell()
    tuning.spare_the_disk()
    tuning.freeze()
    permitted = tuning.CPU_DMA_LATENCY not in {refused.key for refused in refusals}
    cores = tuning.Cores(settings.worker.cpu_dma_latency_us if permitted else None)

    def on_calls(calls: int) -> None:
        try:
            cores.mind(calls)
        except OSError as error:
            log.warning("cores_may_sleep", error=str(error))  # the call goes on all the same
        tuning.between_calls(calls)

    return on_calls


async def run(settings: Settings, number: int, prompts: Prompts, load: Callable[[], Settings]) -> None:
    """A worker process from start to SIGTERM; `load` reads its configuration anew."""
    prompts.load(needed_prompts(settings))
    link = WorkerLink(settings.control_socket, number)
    worker = Worker(settings, number, prompts, link.send, load, link.audio.put, link.run_id)
    link.sessions = worker.sessions.linked
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    parent = os.getppid()

    def replaced() -> None:
        # The control process that started us is dead, and its successor has started a worker of our number: that one
        # has our calls now, and two of us would talk to each caller. While our parent lives it is an operator's
        # mistake, and who leaves would only be started again.
        if os.getppid() != parent:
            worker.abandoned.set()

    worker.ari.on_replaced = replaced
    worker.on_calls = _settle(settings, number)

    ready = keep_ready(lambda: worker.house.policy)

    async def work() -> None:
        # Who has our application until then leaves when it becomes ours. By then it is known that we are there, and
        # nobody is asked to adopt what we take in.
        if not await link.until_known(KNOWN_WITHIN_S):
            log.info("control_process_away")
        await worker.run()

    telling = link.run(lambda dropped: worker.state(dropped, link.audio.dropped), worker.obey)
    link_task, worker_task = asyncio.create_task(telling), asyncio.create_task(work())
    # The link's is one of them: without it nobody hears of our calls, and the control process thinks us dead.
    ends = {asyncio.create_task(stop.wait()), asyncio.create_task(worker.abandoned.wait()), worker_task, link_task}
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if failed := link_task.done():
        log.error("link_failed", exc_info=link_task.exception())
    elif worker.abandoned.is_set():
        await link.drain(1.0)
    if failed or worker.abandoned.is_set():
        log.warning("calls_left_to_others", calls=worker.calls)
        logs.leave()
        # Nothing of them is undone: whoever adopts them goes on with what Asterisk has.
        os._exit(1 if failed else orders.ABANDONED)
    worker_task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await worker_task
    await link.drain(1.0)
    ready.cancel()
    link_task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await link_task
