// What the load generator and the C floor share: one clock, byte streams with or without TLS, WebSocket frames
// (RFC 6455), and as much JSON as it takes to find a key. All sockets are non-blocking; nothing here waits.
#pragma once

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FRAME_BYTES = 160, PTIME_MS = 20, RTP_HEADER_BYTES = 12, RTP_BYTES = RTP_HEADER_BYTES + FRAME_BYTES };
#define PTIME_NS (PTIME_MS * 1000000LL)

// Unix time: the kernel stamps received packets with this clock, so everything is measured by it.
int64_t now_ns(void);

// Says why on stderr and ends the program.
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

typedef struct {
    uint8_t *data;
    size_t start, end, room;
} Buffer;

void buffer_reserve(Buffer *buffer, size_t size); // room for so many more bytes
void buffer_append(Buffer *buffer, const void *data, size_t size);
void buffer_consume(Buffer *buffer, size_t size);
static inline size_t buffer_size(const Buffer *buffer) { return buffer->end - buffer->start; }

// A TCP connection in an epoll set. `out` holds what the kernel did not take yet.
typedef struct {
    int fd, epoll;
    uint64_t tag;
    SSL *ssl;
    bool waits_to_write;
    Buffer in, out;
} Stream;

void stream_open(Stream *stream, int fd, SSL *ssl, int epoll, uint64_t tag); // `ssl` NULL: in clear
void stream_close(Stream *stream);
bool stream_read(Stream *stream);  // what is there, into `in`; false when the connection has ended
bool stream_flush(Stream *stream); // what is in `out`; false when the connection has ended
bool stream_write(Stream *stream, const void *data, size_t size);

enum { WS_TEXT = 1, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10, WS_HEADER_MAX = 14 };

typedef struct {
    int opcode;
    char *payload; // unmasked, inside the stream's `in`: good until the next read
    size_t size;
} Message;

// The next whole frame of `in`, or false. Frames are never split by the peers we have.
bool ws_next(Buffer *in, Message *message);
// One frame; a client masks it.
bool ws_send(Stream *stream, int opcode, const void *payload, size_t size, bool client);
// The answer to Sec-WebSocket-Key, as text of 28 characters.
void ws_accept(const char *key, char *out);

// The value of a key at the first place it is found: behind the colon and any space; NULL when not there.
const char *json_value(const char *text, size_t size, const char *key);
