// The floor: a bridge that does a worker's work on the media path and nothing else, in C: what the kernel, TLS and
// the design cost before any language does. epoll, a UDP socket and a WebSocket a call, G.711 passed through,
// base64 and JSON both ways, ten 2 ms slots on a timerfd (a talkspurt hops to the next slot and gives the time
// back after it, silence in between), an interrupted answer flushed and truncated.
//
// Call I hears RTP at --first-port + 2 I and dials the model when its first packet comes.
//
// --sabotage makes it a bad bridge on purpose, so that the measuring can be seen to fail:
//   drop    every 100th frame of a caller is lost         lose    every 100th frame of the agent is
//   swap    every 100th goes to the next call's model     cross   every 100th goes to the next caller
//   late    20 ms of nothing every 200 ms                 drift   sends a frame every 20.2 ms
//   bend    a bit of every 100th is changed               double  every 100th is sent twice
//   lie     truncates at 20 ms more than was heard        deaf    plays on after speech_started
#define _GNU_SOURCE
#include "wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { SLOTS = 10, SLOT_MS = PTIME_MS / SLOTS, QUEUE_BYTES = 400 * FRAME_BYTES, EVENTS = 256, ID_ROOM = 64 };
enum { TIMER, CALLER, MODEL }; // what an epoll tag is about, in its upper half

typedef struct {
    int number, udp;
    struct sockaddr_in caller; // latched from its first packet
    bool heard, upgraded, ready;
    Stream model;
    uint16_t sequence;
    uint32_t timestamp;
    char item[ID_ROOM]; // what is played, or was last
    int64_t played_ms;  // of it
    uint8_t queue[QUEUE_BYTES];
    size_t first, queued; // a ring
    bool interrupted;     // what else comes of this answer is dead
    uint64_t frames_up, frames_down;
} Call;

// A call's place on the wheel, apart from the call: every turn looks at all of them.
typedef struct {
    int64_t due; // the slot of the next frame on the home grid
    int slot;
    bool up, talking; // talking: ahead of `due` by less than a frame
} Seat;

static int epoll, call_count = 1, first_port = 20000;
static struct sockaddr_in model_address;
static SSL_CTX *tls;
static Call *calls;
static Seat *seats;
static uint8_t silence[FRAME_BYTES];
static int64_t position; // slots run so far
static const char *sabotage = "";

static bool broken(const char *how) { return *sabotage && !strcmp(sabotage, how); }

// --- towards the model

static void dial(Call *call) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, (struct sockaddr *)&model_address, sizeof model_address) && errno != EINPROGRESS)
        die("connect: %s", strerror(errno));
    SSL *ssl = tls ? SSL_new(tls) : NULL;
    if (ssl) {
        X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), "127.0.0.1");
        SSL_set_connect_state(ssl);
    }
    stream_open(&call->model, fd, ssl, epoll, (uint64_t)MODEL << 32 | (uint32_t)call->number);
    static const char request[] = "GET /v1/realtime HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
                                  "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    buffer_append(&call->model.out, request, sizeof request - 1);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.u64 = call->model.tag};
    call->model.waits_to_write = true; // for the connection to stand
    epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event);
}

static void send_caller_frame(Call *call, const uint8_t *payload, size_t size) {
    static const char head[] = "{\"type\":\"input_audio_buffer.append\",\"audio\":\"";
    char text[512];
    size_t used = sizeof head - 1;
    memcpy(text, head, used);
    used += (size_t)EVP_EncodeBlock((unsigned char *)text + used, payload, (int)size);
    memcpy(text + used, "\"}", 2);
    ws_send(&call->model, WS_TEXT, text, used + 2, true);
}

static void on_caller_frame(Call *call, uint8_t *payload, size_t size) {
    Call *to = call;
    if (++call->frames_up % 100 == 0) {
        if (broken("drop"))
            return;
        if (broken("bend"))
            payload[size / 2] ^= 1;
        if (broken("swap"))
            to = &calls[(call->number + 1) % call_count];
    }
    if (to->ready)
        send_caller_frame(to, payload, size);
}

static void read_caller(Call *call) {
    uint8_t packet[512];
    struct sockaddr_in source;
    socklen_t source_size = sizeof source;
    // One a wake: there is hardly ever a second, and it wakes us again.
    ssize_t size = recvfrom(call->udp, packet, sizeof packet, 0, (struct sockaddr *)&source, &source_size);
    if (size <= RTP_HEADER_BYTES)
        return;
    if (!call->heard) {
        call->heard = true;
        call->caller = source;
        dial(call);
    }
    on_caller_frame(call, packet + RTP_HEADER_BYTES, (size_t)size - RTP_HEADER_BYTES);
}

// --- from the model

static void truncate_answer(Call *call) {
    char text[256];
    int size = snprintf(text, sizeof text,
                        "{\"type\":\"conversation.item.truncate\",\"item_id\":\"%s\",\"content_index\":0,"
                        "\"audio_end_ms\":%lld}",
                        call->item, (long long)call->played_ms + (broken("lie") ? PTIME_MS : 0));
    ws_send(&call->model, WS_TEXT, text, (size_t)size, true);
}

static void on_delta(Call *call, const Message *message) {
    const char *item = json_value(message->payload, message->size, "item_id");
    const char *value = json_value(message->payload, message->size, "delta");
    if (!item || !value || call->interrupted)
        return;
    const char *end = memchr(value + 1, '"', message->size - (size_t)(value + 1 - message->payload));
    const char *item_end = memchr(item + 1, '"', ID_ROOM);
    unsigned char audio[8192];
    size_t coded = end ? (size_t)(end - value - 1) : 0;
    if (!coded || coded > sizeof audio / 3 * 4 || !item_end)
        die("a delta that cannot be read");
    int decoded = EVP_DecodeBlock(audio, (const unsigned char *)value + 1, (int)coded);
    decoded -= (value[coded] == '=') + (value[coded - 1] == '=');
    size_t length = (size_t)(item_end - item - 1);
    if (strncmp(call->item, item + 1, length) || call->item[length]) {
        memcpy(call->item, item + 1, length);
        call->item[length] = 0;
        call->played_ms = 0;
    }
    if (call->queued + (size_t)decoded > QUEUE_BYTES)
        die("a queue overflows: the model sends faster than it should");
    for (size_t at = 0; at < (size_t)decoded;) {
        size_t to = (call->first + call->queued) % QUEUE_BYTES, part = (size_t)decoded - at;
        if (part > QUEUE_BYTES - to)
            part = QUEUE_BYTES - to;
        memcpy(call->queue + to, audio + at, part);
        call->queued += part;
        at += part;
    }
    Seat *seat = &seats[call->number];
    if (!seat->talking) { // with the next slot, but never two frames ahead
        int64_t earliest = seat->due - SLOTS + 1;
        seat->talking = true;
        seat->slot = (int)((position > earliest ? position : earliest) % SLOTS);
    }
}

static void on_message(Call *call, const Message *message) {
    const char *type = json_value(message->payload, message->size, "type");
    if (message->opcode == WS_PING)
        ws_send(&call->model, WS_PONG, message->payload, message->size, true);
    if (message->opcode != WS_TEXT || !type)
        return;
    if (!strncmp(type, "\"response.output_audio.delta\"", 29)) {
        on_delta(call, message);
    } else if (!strncmp(type, "\"response.created\"", 18)) {
        call->interrupted = false;
    } else if (!strncmp(type, "\"input_audio_buffer.speech_started\"", 35)) {
        if (call->queued && !broken("deaf")) {
            call->queued = 0;
            call->interrupted = true;
            truncate_answer(call);
        }
    } else if (!strncmp(type, "\"session.created\"", 17)) {
        static const char update[] = "{\"type\":\"session.update\",\"session\":{\"audio\":{"
                                     "\"input\":{\"format\":{\"type\":\"audio/pcmu\"}},"
                                     "\"output\":{\"format\":{\"type\":\"audio/pcmu\"}}}}}";
        ws_send(&call->model, WS_TEXT, update, sizeof update - 1, true);
    } else if (!strncmp(type, "\"session.updated\"", 17)) {
        call->ready = seats[call->number].up = true;
        seats[call->number].due = position + (call->number - position % SLOTS + SLOTS) % SLOTS;
    }
}

static void model_event(Call *call, uint32_t events) {
    bool alive = true;
    if (events & EPOLLOUT)
        alive = stream_flush(&call->model);
    if (alive && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        alive = stream_read(&call->model);
    if (!alive) {
        stream_close(&call->model);
        call->ready = seats[call->number].up = false;
        return;
    }
    Buffer *in = &call->model.in;
    if (!call->upgraded) {
        uint8_t *start = in->data ? in->data + in->start : NULL;
        uint8_t *end = start ? memmem(start, buffer_size(in), "\r\n\r\n", 4) : NULL;
        if (!end)
            return;
        buffer_consume(in, (size_t)(end + 4 - start));
        call->upgraded = true;
    }
    Message message;
    while (ws_next(in, &message))
        on_message(call, &message);
}

// --- the playout clock

static void send_packet(Call *call, const uint8_t *payload) {
    uint8_t packet[RTP_BYTES] = {0x80, 0};
    uint16_t sequence = htons(call->sequence++);
    uint32_t timestamp = htonl(call->timestamp), ssrc = htonl((uint32_t)call->number + 1);
    call->timestamp += FRAME_BYTES;
    memcpy(packet + 2, &sequence, 2);
    memcpy(packet + 4, &timestamp, 4);
    memcpy(packet + 8, &ssrc, 4);
    memcpy(packet + RTP_HEADER_BYTES, payload, FRAME_BYTES);
    sendto(call->udp, packet, sizeof packet, 0, (struct sockaddr *)&call->caller, sizeof call->caller);
}

static void play_frame(Call *call, Seat *seat) {
    seat->due += SLOTS;
    if (call->queued < FRAME_BYTES) { // whole frames come, so this is the end of the talkspurt: back home
        seat->talking = false;
        seat->slot = (int)(seat->due % SLOTS);
        send_packet(call, silence);
        return;
    }
    const uint8_t *frame = call->queue + call->first; // never around the end: the ring holds whole frames
    call->first = (call->first + FRAME_BYTES) % QUEUE_BYTES;
    call->queued -= FRAME_BYTES;
    call->played_ms += PTIME_MS;
    bool hundredth = ++call->frames_down % 100 == 0;
    if (hundredth && broken("lose"))
        return;
    send_packet(hundredth && broken("cross") ? &calls[(call->number + 1) % call_count] : call, frame);
    if (hundredth && broken("double"))
        send_packet(call, frame);
}

static void turn(int64_t ticks) {
    static int64_t turned;
    for (; ticks > 0; ticks--, position++) {
        for (int i = 0; i < call_count; i++) {
            Seat *seat = &seats[i];
            if (seat->slot == position % SLOTS && seat->up && (seat->talking || position >= seat->due))
                play_frame(&calls[i], seat);
        }
        if (broken("late") && ++turned % 100 == 0)
            usleep(20000);
    }
}

// --- start

static void options(int count, char **words) {
    static const struct option known[] = {{"calls", 1, 0, 'n'}, {"first-port", 1, 0, 'f'}, {"model-port", 1, 0, 'm'},
                                          {"tls", 0, 0, 't'},   {"sabotage", 1, 0, 's'},   {0, 0, 0, 0}};
    model_address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int option; (option = getopt_long(count, words, "", known, NULL)) != -1;) {
        switch (option) {
        case 'n': call_count = atoi(optarg); break;
        case 'f': first_port = atoi(optarg); break;
        case 'm': model_address.sin_port = htons((uint16_t)atoi(optarg)); break;
        case 's': sabotage = optarg; break;
        case 't':
            tls = SSL_CTX_new(TLS_client_method());
            SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
            SSL_CTX_set_read_ahead(tls, 1);
            SSL_CTX_set_default_verify_paths(tls); // SSL_CERT_FILE, as for the worker
            SSL_CTX_set_verify(tls, SSL_VERIFY_PEER, NULL);
            break;
        default: die("see floor.c for the options");
        }
    }
}

static void open_calls(void) {
    calls = calloc((size_t)call_count, sizeof *calls);
    seats = calloc((size_t)call_count, sizeof *seats);
    memset(silence, 0xFF, sizeof silence);
    for (int i = 0; i < call_count; i++) {
        Call *call = &calls[i];
        struct sockaddr_in here = {.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)(first_port + 2 * i)),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        call->number = i;
        call->udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
        call->model.fd = -1;
        seats[i].slot = i % SLOTS;
        if (bind(call->udp, (struct sockaddr *)&here, sizeof here))
            die("port %d: %s", first_port + 2 * i, strerror(errno));
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)CALLER << 32 | (uint32_t)i};
        epoll_ctl(epoll, EPOLL_CTL_ADD, call->udp, &event);
    }
}

int main(int count, char **words) {
    options(count, words);
    epoll = epoll_create1(0);
    open_calls();
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    long period_ns = SLOT_MS * (broken("drift") ? 1010000 : 1000000);
    struct itimerspec every = {{0, period_ns}, {0, period_ns}};
    timerfd_settime(timer, 0, &every, NULL);
    struct epoll_event tick = {.events = EPOLLIN, .data.u64 = (uint64_t)TIMER << 32};
    epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &tick);
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        struct epoll_event events[EVENTS];
        int got = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < got; i++) {
            uint32_t number = (uint32_t)events[i].data.u64;
            uint64_t ticks = 0;
            switch (events[i].data.u64 >> 32) {
            case TIMER:
                if (read(timer, &ticks, sizeof ticks) == sizeof ticks)
                    turn((int64_t)ticks);
                break;
            case CALLER: read_caller(&calls[number]); break;
            case MODEL: model_event(&calls[number], events[i].events); break;
            }
        }
    }
}
