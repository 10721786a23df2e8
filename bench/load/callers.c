// The callers' side of the bridge: RTP out on an absolute grid, the agent's RTP judged as it comes in, by the
// time at which the kernel received it.
#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum { SOCKET_BUFFER_BYTES = 1 << 18, BATCH = 8, PACKET_ROOM = 512 };
#define GONE_NS 200000000LL // a latched caller who hears nothing for so long has been hung up on
// And speaks no longer than this, three packets: Asterisk gives a port on at once, and where the next caller is silent,
// a fourth in a row would make it take this one for them (strict RTP), and send them that caller's sound.
#define SPEAKS_NS 60000000LL
#define OVER_NS 3000000000LL // who is heard again from the same port within this time was away, and is no other call

static int64_t grid_from;
static uint64_t next_slot; // caller next_slot % calls, one turn of all of them every 20 ms

void callers_open(int epoll, uint32_t tag) {
    grid_from = now_ns();
    for (int i = 0; i < run.calls; i++) {
        Call *call = &calls[i];
        struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        if (run.first_port) // even ports: the odd ones belong to RTCP
            here.sin_port = htons((uint16_t)(run.first_port + 2 * i));
        socklen_t size = sizeof here;
        int on = 1, room = SOCKET_BUFFER_BYTES;
        *call = (Call){.number = i, .greeter = -1, .udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0)};
        if (call->udp < 0 || bind(call->udp, (struct sockaddr *)&here, sizeof here) ||
            setsockopt(call->udp, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on) ||
            setsockopt(call->udp, SOL_SOCKET, SO_RCVBUF, &room, sizeof room) ||
            getsockname(call->udp, (struct sockaddr *)&here, &size))
            die("UDP socket of call %d: %s", i, strerror(errno));
        call->port = ntohs(here.sin_port);
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)tag << 32 | (uint32_t)i};
        epoll_ctl(epoll, EPOLL_CTL_ADD, call->udp, &event);
    }
}

void callers_start(int number, int port) {
    Call *call = &calls[number];
    call->bridge = (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    call->started = true;
}

// --- out

int64_t callers_due(void) {
    uint64_t n = (uint64_t)run.calls;
    return grid_from + (int64_t)(next_slot / n) * PTIME_NS + (int64_t)(next_slot % n) * PTIME_NS / run.calls;
}

static void send_frame(Call *call, int64_t now) {
    uint8_t packet[RTP_BYTES] = {0x80, 0};
    uint16_t sequence = htons((uint16_t)call->sent);
    uint32_t timestamp = htonl(call->sent * FRAME_BYTES), ssrc = htonl(0x10000u + (uint32_t)call->number);
    memcpy(packet + 2, &sequence, 2);
    memcpy(packet + 4, &timestamp, 4);
    memcpy(packet + 8, &ssrc, 4);
    // Over an answer a loud caller would be a barge-in, which is the model's to order here.
    bool voiced = run.voice && now >= call->voiced_from && now < call->voiced_to && !agent_is_heard(call, now);
    Stamp stamp = {.call = (uint32_t)call->number, .number = call->sent, .sent_at = now};
    stamp_caller(packet + RTP_HEADER_BYTES, &stamp, voiced);
    call->sent++;
    up.sent += in_window(now);
    if (run.lose_every && call->sent % run.lose_every == 0)
        return;
    // A packet the kernel refuses is one that does not arrive: it is counted there.
    sendto(call->udp, packet, sizeof packet, 0, (struct sockaddr *)&call->bridge, sizeof call->bridge);
}

// Hung up on, if it is when they hang up; else left in silence.
static void tell_silent(const Call *call) {
    if (run.by_order)
        printf("{\"event\":\"silent\",\"call\":%d,\"at\":%.6f}\n", call->number, (double)call->heard_at / 1e9), fflush(stdout);
}

// The window is over, and with it what nobody notices who waits for the next answer.
void callers_end(int64_t now) {
    for (int i = 0; !run.latch && i < run.calls; i++)
        down.fell_silent += now - calls[i].heard_at > GONE_NS;
}

void callers_run(int64_t now) {
    for (int64_t due; (due = callers_due()) <= now; next_slot++) {
        Call *call = &calls[next_slot % (uint64_t)run.calls];
        if (run.latch && call->started && now - call->heard_at > GONE_NS) {
            call->started = false;
            call->answer.abandoned = true;
            down.fell_silent += in_window(now);
            tell_silent(call);
        }
        // Where callers come and go; elsewhere they stay, and go on speaking whatever happens to them.
        bool leaves = run.by_order && now - call->heard_at > SPEAKS_NS;
        if (!call->started || leaves)
            continue;
        int64_t sent_at = now_ns();
        if (in_window(sent_at))
            sample(&up.send_late, sent_at - due);
        send_frame(call, sent_at);
    }
}

// --- in

bool agent_is_heard(const Call *call, int64_t now) {
    const Answer *answer = &call->answer;
    bool under_way = answer->deltas && !answer->interrupted_at && !answer->abandoned && answer->frames < ANSWER_FRAMES;
    return under_way || now - answer->last_at < 2 * PTIME_NS;
}

static void measure(const Answer *answer, uint32_t frame, int64_t at) {
    if (frame == 0) {
        sample(&down.first_audio, at - answer->first_delta_at);
        sample(&down.turn_added, answer->heard_late + at - answer->first_delta_at);
        return;
    }
    int64_t late = at - answer->first_at - (int64_t)frame * PTIME_NS;
    sample(&down.grid, late < 0 ? -late : late);
    if (frame == ANSWER_FRAMES - 1)
        sample(&down.drift, late);
    if (frame == answer->frames) {
        int64_t deviation = at - answer->last_at - PTIME_NS;
        sample(&down.pacing, deviation < 0 ? -deviation : deviation);
    }
}

static void tell_greeted(Call *call, uint32_t frame, int64_t at) {
    if (run.by_order && !call->greeted)
        printf("{\"event\":\"greeted\",\"call\":%d,\"at\":%.6f,\"frame\":%u}\n", call->number, (double)at / 1e9, frame),
            fflush(stdout);
    call->greeted = true;
}

// Somebody who is not the model, before it: an announcement.
static void tell_other_voice(Call *call, int64_t at) {
    if (!call->told)
        printf("{\"event\":\"voice\",\"call\":%d,\"at\":%.6f}\n", call->number, (double)at / 1e9), fflush(stdout);
    call->told = true;
}

// Frames of the greeting, from here to there, which the caller should have heard by now.
static void miss_greeting(Call *call, uint32_t until, bool counts) {
    if (run.by_order && counts && until > call->greeting_frames)
        down.lost += until - call->greeting_frames;
    call->greeting_frames = until;
}

static void on_agent_frame(Call *call, const Stamp *stamp, int64_t at) {
    Answer *answer = &call->answer;
    bool counts = in_window(at);
    tell_greeted(call, stamp->number == GREETING ? stamp->frame : DELTA_FRAMES, at);
    if (stamp->number == GREETING) {
        // Whose words these are shows when the caller is heard (model.c); they must be of one session at least.
        down.crosstalk += counts && call->greeter >= 0 && call->greeter != (int)stamp->call;
        call->greeter = (int)stamp->call;
        miss_greeting(call, stamp->frame, counts);
        call->greeting_frames++;
        return;
    }
    miss_greeting(call, DELTA_FRAMES, counts);
    if (stamp->call != (uint32_t)call->number) {
        down.crosstalk += counts;
    } else if (stamp->number != answer->number) {
        down.stale += counts; // of an answer that should long be over; what it lacked was counted as lost
    } else if (stamp->frame < answer->frames) {
        down.disordered += counts;
    } else {
        if (stamp->frame > answer->frames && counts)
            down.lost += stamp->frame - answer->frames;
        if (stamp->frame == 0)
            answer->first_at = at;
        if (counts)
            measure(answer, stamp->frame, at);
        if (answer->interrupted_at && at > answer->interrupted_at) {
            answer->after++;
            if (counts)
                sample(&answers.after, at - answer->interrupted_at);
        }
        down.frames += counts;
        answer->frames = stamp->frame + 1;
        answer->last_at = at;
    }
}

static void on_packet(Call *call, const uint8_t *packet, size_t size, int64_t at) {
    bool counts = in_window(at);
    if (size < RTP_HEADER_BYTES || packet[0] != 0x80) {
        down.garbled += counts;
        return;
    }
    uint16_t sequence = (uint16_t)(packet[2] << 8 | packet[3]);
    int16_t ahead = (int16_t)(call->hears ? sequence - call->next_sequence : 0);
    if (ahead < 0) {
        down.disordered += counts;
        return;
    }
    if (counts)
        down.rtp_lost += (uint64_t)ahead;
    call->hears = true;
    call->next_sequence = (uint16_t)(sequence + 1);
    const uint8_t *payload = packet + RTP_HEADER_BYTES;
    Stamp stamp;
    if (is_silence(payload, size - RTP_HEADER_BYTES))
        down.silence += counts;
    else if (stamp_read_agent(payload, size - RTP_HEADER_BYTES, &stamp))
        on_agent_frame(call, &stamp, at);
    else if (run.by_order && !call->greeted)
        tell_other_voice(call, at);
    else
        down.garbled += counts;
}

// Strict RTP from our side: only who spoke first is heard, until the call is over.
static bool is_of_call(Call *call, const struct sockaddr_in *source, const uint8_t *packet, size_t size, int64_t at) {
    if (run.latch && !call->started) {
        if (size != RTP_BYTES || packet[0] != 0x80 || packet[1] & 0x7F)
            return false; // RTCP of a neighbour
        bool another = source->sin_port != call->bridge.sin_port || at - call->heard_at > OVER_NS;
        call->bridge = *source;
        call->started = true;
        if (another) {
            call->hears = call->greeted = call->told = false;
            call->greeter = -1;
            call->greeting_frames = 0;
        }
    }
    if (source->sin_port != call->bridge.sin_port)
        return false;
    call->heard_at = at;
    return true;
}

static int64_t received_at(struct msghdr *message) {
    for (struct cmsghdr *control = CMSG_FIRSTHDR(message); control; control = CMSG_NXTHDR(message, control))
        if (control->cmsg_level == SOL_SOCKET && control->cmsg_type == SCM_TIMESTAMPNS) {
            struct timespec at;
            memcpy(&at, CMSG_DATA(control), sizeof at);
            return at.tv_sec * 1000000000LL + at.tv_nsec;
        }
    return now_ns(); // the kernel begins to stamp a moment after it was asked to
}

void callers_read(Call *call) {
    static uint8_t packets[BATCH][PACKET_ROOM];
    static char controls[BATCH][128];
    struct sockaddr_in sources[BATCH];
    struct iovec parts[BATCH];
    struct mmsghdr messages[BATCH];
    for (int i = 0; i < BATCH; i++) {
        parts[i] = (struct iovec){packets[i], PACKET_ROOM};
        messages[i] = (struct mmsghdr){.msg_hdr = {.msg_name = &sources[i],
                                                   .msg_namelen = sizeof sources[i],
                                                   .msg_iov = &parts[i],
                                                   .msg_iovlen = 1,
                                                   .msg_control = controls[i],
                                                   .msg_controllen = sizeof controls[i]}};
    }
    int count = recvmmsg(call->udp, messages, BATCH, 0, NULL);
    for (int i = 0; i < count; i++) {
        int64_t at = received_at(&messages[i].msg_hdr);
        // Other programs on the machine may miss their way to our port; the bridge has its own for each call.
        if (is_of_call(call, &sources[i], packets[i], messages[i].msg_len, at))
            on_packet(call, packets[i], messages[i].msg_len, at);
        else
            down.foreign++;
    }
}
