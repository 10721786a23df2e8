// The realtime model's side of the bridge: the server of xAI's wire, as far as a conversation of even rhythm needs
// it. An answer is 4 s of stamped audio in deltas of 200 ms at four times real time, then a pause in which
// the caller speaks; some answers are interrupted in their middle. A session belongs to the call whose stamp came
// in first.
#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define SPEAK_AFTER_NS 120000000LL // into the pause
#define NOTICE_NS 100000000LL      // the detector's onset
#define MODEL "grok-voice-latest"

struct Session {
    Stream stream;
    bool upgraded, configured, closed;
    bool over;    // its call has another
    bool greeted; // has said the bridge's own words
    int answers;  // begun; what the call remembers of answers before is of another call with the same number
    Call *call;
    int64_t turn_at;   // when the next answer begins
    bool speech_noted; // the caller's, in this pause
};

static Session *sessions;
static int session_count, session_room, listener, epoll, ready;
static uint32_t tag;
static SSL_CTX *tls;
static int64_t grid_from;
static uint64_t next_slot, event_count;
static uint64_t random_state;

int model_open(int epoll_fd, uint32_t listen_tag, uint32_t session_tag) {
    epoll = epoll_fd, tag = session_tag, random_state = run.seed;
    grid_from = now_ns();
    session_room = 4 * run.calls + 16;
    sessions = calloc((size_t)session_room, sizeof *sessions);
    if (run.tls) {
        tls = SSL_CTX_new(TLS_server_method());
        SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        SSL_CTX_set_read_ahead(tls, 1);
        if (SSL_CTX_use_certificate_chain_file(tls, run.certificate) != 1 ||
            SSL_CTX_use_PrivateKey_file(tls, run.key, SSL_FILETYPE_PEM) != 1)
            die("cannot use %s and %s", run.certificate, run.key);
    }
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof here;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 1024) ||
        getsockname(listener, (struct sockaddr *)&here, &size))
        die("listening socket: %s", strerror(errno));
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)listen_tag << 32};
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    return ntohs(here.sin_port);
}

static int free_session(void) {
    for (int number = 0; number < session_count; number++)
        if (sessions[number].closed)
            return number;
    if (session_count == session_room)
        die("more sessions than %d: does the bridge reconnect?", session_room);
    return session_count++;
}

void model_accept(void) {
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        int number = free_session();
        sessions[number] = (Session){0};
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        SSL *ssl = tls ? SSL_new(tls) : NULL;
        if (ssl)
            SSL_set_accept_state(ssl);
        stream_open(&sessions[number].stream, fd, ssl, epoll, (uint64_t)tag << 32 | (uint32_t)number);
    }
}

int model_ready(void) { return ready; }

// --- what we say

static void say(Session *session, const char *type, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void say(Session *session, const char *type, const char *format, ...) {
    char text[2048];
    int used = snprintf(text, sizeof text, "{\"type\":\"%s\",\"event_id\":\"%08llx-5f0c-4e5b-9d3a-6b1f8c2d7e40\"", type,
                        (unsigned long long)event_count++);
    va_list arguments;
    va_start(arguments, format);
    used += vsnprintf(text + used, sizeof text - (size_t)used, format, arguments);
    va_end(arguments);
    text[used++] = '}';
    if (!session->closed)
        ws_send(&session->stream, WS_TEXT, text, (size_t)used, false);
}

static const char *id(const char *what, const Call *call) {
    static char texts[4][64];
    static int turn;
    char *text = texts[turn++ & 3];
    snprintf(text, sizeof texts[0], "%s_%08x-%04x-4b7e-8d21-%08x", what, call->answer.number, call->number,
             call->answer.number);
    return text;
}

static void say_delta(Session *session, Call *call, uint32_t stamped) {
    Answer *answer = &call->answer;
    uint8_t audio[DELTA_FRAMES * FRAME_BYTES];
    for (int i = 0; i < DELTA_FRAMES; i++) {
        Stamp stamp = {stamped, answer->number, (uint32_t)(answer->deltas * DELTA_FRAMES + i), 0};
        stamp_agent(audio + i * FRAME_BYTES, &stamp);
    }
    char text[4096];
    int used = snprintf(text, sizeof text,
                        "{\"type\":\"response.output_audio.delta\",\"event_id\":\"%08llx-5f0c-4e5b-9d3a-6b1f8c2d7e40\","
                        "\"previous_item_id\":null,\"item_id\":\"%s\",\"response_id\":\"%s\",\"content_index\":0,"
                        "\"output_index\":0,\"delta\":\"",
                        (unsigned long long)event_count++, id("item", call), id("resp", call));
    used += EVP_EncodeBlock((unsigned char *)text + used, audio, sizeof audio);
    used += snprintf(text + used, sizeof text - (size_t)used,
                     "\",\"rid\":\"%08llx-77aa-4c1d-b0de-2f6a9e8c3b15\",\"audio_duration_ms\":%d,\"ts\":%lld}",
                     (unsigned long long)event_count, DELTA_FRAMES * PTIME_MS, (long long)(now_ns() / 1000000));
    if (answer->deltas++ == 0)
        answer->first_delta_at = now_ns();
    ws_send(&session->stream, WS_TEXT, text, (size_t)used, false);
}

// --- the rhythm of a conversation

static double chance(void) {
    random_state ^= random_state << 13, random_state ^= random_state >> 7, random_state ^= random_state << 17;
    return (double)(random_state >> 11) / 9007199254740992.0;
}

static void judge(const Answer *answer, int64_t now) {
    if (!answer->number || answer->abandoned || !in_window(now))
        return;
    if (!answer->interrupted_at) {
        down.lost += ANSWER_FRAMES - answer->frames;
        answers.whole += answer->frames == ANSWER_FRAMES;
        return;
    }
    answers.cut++;
    sample(&answers.after_frames, answer->after * 1000LL);
    if (answer->truncates != 1)
        answers.truncate_missing++;
    else if (answer->truncate_ms != (int64_t)answer->frames * PTIME_MS)
        answers.truncate_wrong++;
}

static void open_response(Session *session, Call *call) {
    say(session, "response.created",
        ",\"response\":{\"id\":\"%s\",\"object\":\"realtime.response\",\"output\":[],\"status\":\"in_progress\","
        "\"status_details\":\"unimplemented\",\"usage\":{},\"metadata\":null}",
        id("resp", call));
    say(session, "response.output_item.added",
        ",\"response_id\":\"%s\",\"output_index\":0,\"item\":{\"id\":\"%s\",\"object\":\"realtime.item\","
        "\"type\":\"message\",\"status\":\"in_progress\",\"role\":\"assistant\"}",
        id("resp", call), id("item", call));
}

static void begin_answer(Session *session, Call *call, int64_t now) {
    judge(&call->answer, now);
    if (session->answers++) {
        say(session, "input_audio_buffer.speech_stopped", ",\"item_id\":\"%s\",\"audio_end_ms\":0", id("user", call));
        say(session, "input_audio_buffer.committed", ",\"item_id\":\"%s\",\"previous_item_id\":null", id("user", call));
        say(session, "conversation.item.input_audio_transcription.completed",
            ",\"item_id\":\"%s\",\"transcript\":\"what are your opening hours\",\"status\":\"completed\"",
            id("user", call));
    }
    int64_t length = ANSWER_FRAMES * PTIME_NS;
    int64_t last_at = call->answer.last_at;
    call->answer = (Answer){.number = call->answer.number + 1,
                            .heard_late = call->under_way,
                            .truncate_ms = -1,
                            .last_at = last_at};
    if (chance() * 100 < run.interrupted_percent) // anywhere but in its first and last eighth
        call->answer.interrupt_at = now + length / 8 + (int64_t)(chance() * (double)length * 3 / 4);
    session->turn_at = now + length + PAUSE_NS;
    session->speech_noted = false;
    call->voiced_from = now + length + SPEAK_AFTER_NS;
    call->voiced_to = session->turn_at - PTIME_NS;
    answers.begun += in_window(now);
    open_response(session, call);
}

static void end_answer(Session *session, Call *call, const char *status) {
    if (!strcmp(status, "completed")) {
        say(session, "response.output_audio_transcript.done",
            ",\"item_id\":\"%s\",\"response_id\":\"%s\",\"transcript\":\"We are open from nine to five.\"",
            id("item", call), id("resp", call));
        say(session, "response.output_audio.done", ",\"item_id\":\"%s\",\"response_id\":\"%s\"", id("item", call),
            id("resp", call));
    }
    say(session, "response.done",
        ",\"response\":{\"id\":\"%s\",\"object\":\"realtime.response\",\"status\":\"%s\",\"output\":[]},"
        "\"response_id\":\"%s\",\"usage\":{\"output_audio_seconds\":%.2f}",
        id("resp", call), status, id("resp", call), call->answer.deltas * DELTA_FRAMES * PTIME_MS / 1000.0);
}

// Words that the bridge asks for before the caller has been heard: stamped with the session's number, not the call's.
static void greet(Session *session) {
    Call nobody = {.number = (int)(session - sessions)};
    open_response(session, &nobody);
    say_delta(session, &nobody, (uint32_t)nobody.number);
    end_answer(session, &nobody, "completed");
    session->greeted = true;
    session->turn_at = now_ns() + PAUSE_NS; // not into these words
}

static void interrupt(Session *session, Call *call, int64_t now) {
    Answer *answer = &call->answer;
    answer->interrupted_at = now_ns();
    say(session, "input_audio_buffer.speech_started", ",\"item_id\":\"%s\",\"audio_start_ms\":0", id("user", call));
    if (answer->deltas < ANSWER_DELTAS)
        end_answer(session, call, "cancelled");
    session->turn_at = now + PAUSE_NS;
    session->speech_noted = true;
    call->voiced_from = now + SPEAK_AFTER_NS;
    call->voiced_to = session->turn_at - PTIME_NS;
}

static void go_on(Session *session, Call *call, int64_t now) {
    Answer *answer = &call->answer;
    if (run.by_order && !session->greeted)
        return; // the bridge opens the conversation there
    if (now >= session->turn_at)
        begin_answer(session, call, now);
    if (!session->answers || answer->interrupted_at)
        return;
    if (answer->interrupt_at && now >= answer->interrupt_at) {
        interrupt(session, call, now);
    } else if (answer->deltas < ANSWER_DELTAS) {
        if (answer->deltas && now < answer->first_delta_at + answer->deltas * DELTA_EVERY_NS)
            return;
        say_delta(session, call, (uint32_t)call->number);
        if (answer->deltas % 5 == 0)
            say(session, "response.output_audio_transcript.delta",
                ",\"item_id\":\"%s\",\"response_id\":\"%s\",\"delta\":\"nine to five \",\"start_time\":0",
                id("item", call), id("resp", call));
        if (answer->deltas == ANSWER_DELTAS)
            end_answer(session, call, "completed");
    } else if (run.voice && !session->speech_noted && now >= call->voiced_from + NOTICE_NS && !agent_is_heard(call, now)) {
        session->speech_noted = true;
        say(session, "input_audio_buffer.speech_started", ",\"item_id\":\"%s\",\"audio_start_ms\":0", id("user", call));
    }
}

static int64_t due(void) {
    uint64_t n = (uint64_t)run.calls;
    return grid_from + (int64_t)(next_slot / n) * PTIME_NS + (int64_t)(next_slot % n) * PTIME_NS / run.calls;
}

void model_run(int64_t now) {
    for (; due() <= now; next_slot++) {
        Call *call = &calls[next_slot % (uint64_t)run.calls];
        if (call->session && call->session->configured && !call->session->closed)
            go_on(call->session, call, now_ns());
    }
}

// --- what we hear

// The call's earlier session, if any, belongs to a call that was hung up.
static void join(Session *session, Call *call) {
    if (call->session)
        call->session->over = true;
    else
        ready++;
    down.crosstalk += call->greeter >= 0 && call->greeter != session - sessions;
    session->call = call;
    call->session = session;
}

static void on_audio(Session *session, const char *message, size_t size, int64_t at) {
    uint8_t audio[FRAME_BYTES + 8]; // EVP_DecodeBlock writes whole triples
    const char *value = json_value(message, size, "audio");
    const char *end = value ? memchr(value + 1, '"', size - (size_t)(value + 1 - message)) : NULL;
    size_t coded = end ? (size_t)(end - value - 1) : 0;
    Stamp stamp;
    int decoded = coded && coded <= sizeof audio / 3 * 4
                      ? EVP_DecodeBlock(audio, (const unsigned char *)value + 1, (int)coded)
                      : -1;
    for (size_t i = 1; decoded > 0 && i <= 2 && end[-(long)i] == '='; i++)
        decoded--;
    if (decoded > 0 && is_silence(audio, (size_t)decoded)) {
        up.filled += in_window(at); // made by the bridge: callers stamp all that they send
        return;
    }
    if (decoded < 0 || !stamp_read_caller(audio, (size_t)decoded, &stamp) || stamp.call >= (uint32_t)run.calls) {
        up.garbled += in_window(at);
        return;
    }
    Call *call = &calls[stamp.call];
    if (!session->call)
        join(session, call);
    if (session->over)
        return;
    bool counts = in_window(stamp.sent_at);
    if (session->call != call) {
        up.crosstalk += counts;
    } else if (call->model_hears && (int32_t)(stamp.number - call->next_at_model) < 0) {
        up.disordered += counts;
    } else {
        call->model_hears = true;
        call->next_at_model = stamp.number + 1;
        call->under_way = at - stamp.sent_at;
        up.received += counts;
        if (counts)
            sample(&up.delay, at - stamp.sent_at);
    }
}

static void on_truncate(Session *session, const char *message, size_t size) {
    const char *ms = json_value(message, size, "audio_end_ms");
    const char *item = json_value(message, size, "item_id");
    Call *call = session->call;
    if (!call || session->over || !ms || !item || strncmp(item + 1, id("item", call), strlen(id("item", call))))
        return; // of no item of ours: it will be missed
    call->answer.truncates++;
    call->answer.truncate_ms = strtoll(ms, NULL, 10);
}

static void on_update(Session *session, int64_t now) {
    if (!session->configured)
        session->turn_at = now + (int64_t)(chance() * (double)(ANSWER_FRAMES * PTIME_NS + PAUSE_NS));
    session->configured = true;
    say(session, "session.updated",
        ",\"session\":{\"model\":\"" MODEL "\",\"turn_detection\":{\"type\":\"server_vad\"},\"audio\":{"
        "\"input\":{\"format\":{\"type\":\"audio/pcmu\"}},\"output\":{\"format\":{\"type\":\"audio/pcmu\"}}}}");
}

static void on_message(Session *session, const Message *message, int64_t now) {
    const char *type = json_value(message->payload, message->size < 80 ? message->size : 80, "type");
    if (message->opcode == WS_PING)
        ws_send(&session->stream, WS_PONG, message->payload, message->size, false);
    else if (message->opcode == WS_CLOSE)
        ws_send(&session->stream, WS_CLOSE, message->payload, message->size < 2 ? 0 : 2, false);
    else if (message->opcode != WS_TEXT || !type)
        up.garbled += in_window(now);
    else if (!strncmp(type, "\"input_audio_buffer.append\"", 27))
        on_audio(session, message->payload, message->size, now);
    else if (!strncmp(type, "\"conversation.item.truncate\"", 28))
        on_truncate(session, message->payload, message->size);
    else if (!strncmp(type, "\"conversation.item.create\"", 26))
        greet(session);
    else if (!strncmp(type, "\"session.update\"", 16))
        on_update(session, now);
}

static void upgrade(Session *session) {
    Buffer *in = &session->stream.in;
    const char *head = (const char *)in->data + in->start;
    const char *end = memmem(head, buffer_size(in), "\r\n\r\n", 4);
    if (!end)
        return;
    const char *key = memmem(head, (size_t)(end - head), "Sec-WebSocket-Key:", 18);
    char accept[32], coded[32] = "", answer[256];
    if (!key || sscanf(key + 18, " %24[A-Za-z0-9+/=]", coded) != 1)
        die("a connection without Sec-WebSocket-Key");
    ws_accept(coded, accept);
    int size = snprintf(answer, sizeof answer,
                        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Accept: %s\r\n\r\n",
                        accept);
    buffer_consume(in, (size_t)(end + 4 - head));
    stream_write(&session->stream, answer, (size_t)size);
    session->upgraded = true;
    say(session, "session.created",
        ",\"session\":{\"id\":\"%08x\",\"object\":\"realtime.session\",\"voice\":\"xai_ara\",\"model\":\"" MODEL "\"}",
        (unsigned)(session - sessions));
    say(session, "conversation.created", ",\"conversation\":{\"id\":\"conv_%08x\",\"object\":\"realtime.conversation\"}",
        (unsigned)(session - sessions));
}

void model_event(int number, uint32_t events) {
    Session *session = &sessions[number];
    bool alive = true;
    if (events & EPOLLOUT)
        alive = stream_flush(&session->stream);
    if (alive && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        alive = stream_read(&session->stream);
    int64_t now = now_ns();
    if (!session->upgraded)
        upgrade(session);
    Message message;
    while (session->upgraded && ws_next(&session->stream.in, &message))
        on_message(session, &message, now);
    if (!alive) {
        session->closed = true;
        sessions_lost += in_window(now);
        if (session->call && !session->over) {
            ready--;
            session->call->session = NULL;
            session->call->answer.abandoned = true;
        }
        stream_close(&session->stream);
    }
}
