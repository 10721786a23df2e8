// The load generator: N callers on one side of a bridge, the realtime model on its other, in one thread, so that
// what went in and what came out meet in one place and by one clock.
//
//   main.c     the loop, the phases of a run, the command line
//   callers.c  RTP: stamped frames out 50 times a second a call, the agent's frames judged as they come in
//   model.c    the realtime server: sessions, answers, interruptions; the callers' frames judged as they come in
//   stamp.c    what is written into each frame, so that it can be recognised
//   figures.c  what was counted and measured, as JSON
#pragma once

#include "../wire.h"

#include <netinet/in.h>

enum {
    ANSWER_FRAMES = 200, // 4 s
    DELTA_FRAMES = 10,   // 200 ms
    ANSWER_DELTAS = ANSWER_FRAMES / DELTA_FRAMES,
};
#define DELTA_EVERY_NS (DELTA_FRAMES * PTIME_NS / 4) // four times real time
#define PAUSE_NS 600000000LL                         // between answers: the agent talks 87 % of the time

// One answer of the model, and what has been heard of it.
typedef struct {
    uint32_t number; // from 1; 0: none yet
    int deltas;      // written so far
    int64_t first_delta_at;
    int64_t heard_late; // how long the caller's last frame before it was under way
    int64_t interrupt_at;   // when it will be interrupted; 0: it is heard out
    int64_t interrupted_at; // when that was written
    int64_t truncate_ms;    // what the bridge says was heard; -1: nothing said
    uint32_t truncates;
    uint32_t frames; // heard: the number of the frame that must come next
    uint32_t after;  // frames that left after `interrupted_at`
    bool abandoned;  // the call ended before it did
    int64_t first_at, last_at;
} Answer;

typedef struct Session Session;

typedef struct {
    int udp, number;
    uint16_t port;
    struct sockaddr_in bridge;
    bool started; // speaks
    bool greeted; // has heard a frame of the agent's
    bool told;    // has heard somebody else before it
    int greeter;  // the session that its greeting came from; -1: none yet
    uint32_t greeting_frames; // heard of it; the last of them, and it is over: DELTA_FRAMES
    int64_t heard_at;
    uint32_t sent; // frames: also the RTP sequence and the next stamp
    int64_t voiced_from, voiced_to;
    bool hears; // a packet has come: `next_sequence` holds
    uint16_t next_sequence;
    Answer answer;
    Session *session;
    uint32_t next_at_model; // the frame the model must get next
    bool model_hears;
    int64_t under_way; // the last frame that the model got, until then
} Call;

typedef struct {
    int calls, first_port; // `first_port` 0: any; else callers have this one, the next but one, and so on
    bool latch;            // callers wait to be called and speak to whoever they hear: they are a telephone's media
    bool by_order;         // the window is begun and ended by orders; calls open with words the bridge asks for
    int64_t from, to; // the window that counts; `to` 0: not yet
    uint32_t lose_every;   // of a caller's frames one in so many is not sent, to see that it is missed; 0: none
    bool tls;
    const char *certificate, *key;
    int interrupted_percent;
    bool voice; // callers speak in the pauses
    uint64_t seed;
} Run;

extern Run run;
extern Call *calls;

static inline bool in_window(int64_t at) { return run.from && at >= run.from && (!run.to || at < run.to); }

// callers.c
void callers_open(int epoll, uint32_t tag);
void callers_start(int call, int port);
void callers_read(Call *call);
int64_t callers_due(void);
void callers_run(int64_t now);
void callers_end(int64_t now);
bool agent_is_heard(const Call *call, int64_t now);

// model.c
int model_open(int epoll, uint32_t listen_tag, uint32_t session_tag); // the port
void model_accept(void);
void model_event(int session, uint32_t events);
void model_run(int64_t now); // whenever the loop turns: a model is not punctual, only its times must be known
int model_ready(void); // calls whose session is configured and gets audio

// stamp.c
enum { GREETING = 0 }; // the number of an answer that comes before the caller is known: `call` is the session's then

typedef struct {
    uint32_t call, number, frame; // of a caller's frame `frame` is 0; of the agent's, `number` is the answer
    int64_t sent_at;              // of a caller's frame, to the microsecond
} Stamp;

void stamp_open(void);
void stamp_caller(uint8_t *payload, const Stamp *stamp, bool voiced);
void stamp_agent(uint8_t *payload, const Stamp *stamp);
// False for anything that is not, byte for byte, what `stamp_*` makes.
bool stamp_read_caller(const uint8_t *payload, size_t size, Stamp *stamp);
bool stamp_read_agent(const uint8_t *payload, size_t size, Stamp *stamp);
bool is_silence(const uint8_t *payload, size_t size);

// figures.c
typedef struct {
    uint32_t *us;
    size_t count, room;
} Samples;

void sample(Samples *samples, int64_t ns); // negative counts as 0

typedef struct {
    uint64_t sent, received, disordered, garbled, crosstalk, filled;
    Samples delay, send_late;
} Up;

typedef struct {
    uint64_t frames, silence, lost, disordered, garbled, crosstalk, stale, foreign, rtp_lost, fell_silent;
    Samples pacing, grid, drift, first_audio, turn_added;
} Down;

typedef struct {
    uint64_t begun, whole, cut, truncate_missing, truncate_wrong;
    Samples after_frames, after; // counts; lateness
} Answers;

extern Up up;
extern Down down;
extern Answers answers;
extern uint64_t sessions_lost;

void figures_print(double busy);
