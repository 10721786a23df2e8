// See wire.h.
#define _GNU_SOURCE
#include "wire.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/sha.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { READ_BYTES = 16384 + 256 };

int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

void buffer_reserve(Buffer *buffer, size_t size) {
    if (buffer->start == buffer->end)
        buffer->start = buffer->end = 0;
    if (buffer->room - buffer->end >= size)
        return;
    size_t used = buffer_size(buffer);
    if (buffer->start) {
        memmove(buffer->data, buffer->data + buffer->start, used);
        buffer->start = 0;
        buffer->end = used;
    }
    if (buffer->room - used < size) {
        buffer->room = used + size;
        buffer->data = realloc(buffer->data, buffer->room);
        if (!buffer->data)
            die("out of memory");
    }
}

void buffer_append(Buffer *buffer, const void *data, size_t size) {
    buffer_reserve(buffer, size);
    memcpy(buffer->data + buffer->end, data, size);
    buffer->end += size;
}

void buffer_consume(Buffer *buffer, size_t size) { buffer->start += size; }

// --- streams

static void watch(Stream *stream, bool write) {
    struct epoll_event event = {.events = EPOLLIN | (write ? EPOLLOUT : 0), .data.u64 = stream->tag};
    stream->waits_to_write = write;
    epoll_ctl(stream->epoll, EPOLL_CTL_MOD, stream->fd, &event);
}

void stream_open(Stream *stream, int fd, SSL *ssl, int epoll, uint64_t tag) {
    *stream = (Stream){.fd = fd, .ssl = ssl, .epoll = epoll, .tag = tag};
    if (ssl)
        SSL_set_fd(ssl, fd);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = tag};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
        die("epoll: %s", strerror(errno));
}

void stream_close(Stream *stream) {
    if (stream->fd < 0)
        return;
    SSL_free(stream->ssl);
    close(stream->fd);
    free(stream->in.data);
    free(stream->out.data);
    *stream = (Stream){.fd = -1};
}

bool stream_read(Stream *stream) {
    for (;;) {
        buffer_reserve(&stream->in, READ_BYTES);
        uint8_t *to = stream->in.data + stream->in.end;
        size_t room = stream->in.room - stream->in.end;
        if (stream->ssl) {
            ERR_clear_error();
            int got = SSL_read(stream->ssl, to, (int)room);
            if (got <= 0) {
                int why = SSL_get_error(stream->ssl, got);
                return (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) && stream_flush(stream);
            }
            stream->in.end += (size_t)got;
            // Level-triggered: what still lies in the socket wakes us again, what OpenSSL has read ahead does not.
            if (!SSL_has_pending(stream->ssl))
                return true;
        } else {
            ssize_t got = recv(stream->fd, to, room, 0);
            if (got <= 0)
                return got < 0 && errno == EAGAIN;
            stream->in.end += (size_t)got;
            return true;
        }
    }
}

bool stream_flush(Stream *stream) {
    Buffer *out = &stream->out;
    while (buffer_size(out)) {
        ssize_t sent;
        if (stream->ssl) {
            ERR_clear_error();
            sent = SSL_write(stream->ssl, out->data + out->start, (int)buffer_size(out));
            if (sent <= 0) {
                int why = SSL_get_error(stream->ssl, (int)sent);
                if (why != SSL_ERROR_WANT_WRITE && why != SSL_ERROR_WANT_READ)
                    return false;
                if (why == SSL_ERROR_WANT_READ)
                    return true; // in the handshake: the next read goes on with it
            }
        } else {
            sent = send(stream->fd, out->data + out->start, buffer_size(out), MSG_NOSIGNAL);
            if (sent < 0 && errno != EAGAIN)
                return false;
        }
        if (sent <= 0) {
            if (!stream->waits_to_write)
                watch(stream, true);
            return true;
        }
        buffer_consume(out, (size_t)sent);
    }
    if (stream->waits_to_write)
        watch(stream, false);
    return true;
}

bool stream_write(Stream *stream, const void *data, size_t size) {
    buffer_append(&stream->out, data, size);
    return stream_flush(stream);
}

// --- WebSocket

static void mask(uint8_t *data, size_t size, const uint8_t *key) {
    uint64_t wide;
    memcpy(&wide, key, 4);
    memcpy((uint8_t *)&wide + 4, key, 4);
    size_t i = 0;
    for (; i + 8 <= size; i += 8) {
        uint64_t word;
        memcpy(&word, data + i, 8);
        word ^= wide;
        memcpy(data + i, &word, 8);
    }
    for (; i < size; i++)
        data[i] ^= key[i & 3];
}

bool ws_next(Buffer *in, Message *message) {
    uint8_t *head = in->data + in->start;
    size_t there = buffer_size(in);
    if (there < 2)
        return false;
    size_t size = head[1] & 0x7F, header = 2;
    if (size == 126) {
        if (there < 4)
            return false;
        size = (size_t)head[2] << 8 | head[3];
        header = 4;
    } else if (size == 127) {
        if (there < 10)
            return false;
        size = 0;
        for (int i = 2; i < 10; i++)
            size = size << 8 | head[i];
        header = 10;
    }
    bool masked = head[1] & 0x80;
    if (there < header + (masked ? 4 : 0) + size)
        return false;
    uint8_t *payload = head + header + (masked ? 4 : 0);
    if (masked)
        mask(payload, size, head + header);
    *message = (Message){head[0] & 0x0F, (char *)payload, size};
    buffer_consume(in, (size_t)(payload - head) + size);
    return true;
}

bool ws_send(Stream *stream, int opcode, const void *payload, size_t size, bool client) {
    uint8_t header[WS_HEADER_MAX] = {(uint8_t)(0x80 | opcode)};
    size_t used = 2;
    if (size < 126) {
        header[1] = (uint8_t)size;
    } else {
        if (size > 0xFFFF)
            die("a frame of %zu bytes: none of ours is that large", size);
        header[1] = 126;
        header[2] = (uint8_t)(size >> 8);
        header[3] = (uint8_t)size;
        used = 4;
    }
    uint8_t *key = header + used;
    if (client) {
        static uint32_t random = 2463534242; // xorshift: the key need not be secret here
        random ^= random << 13, random ^= random >> 17, random ^= random << 5;
        header[1] |= 0x80;
        memcpy(key, &random, 4);
        used += 4;
    }
    buffer_append(&stream->out, header, used);
    buffer_append(&stream->out, payload, size);
    if (client)
        mask(stream->out.data + stream->out.end - size, size, key);
    return stream_flush(stream);
}

void ws_accept(const char *key, char *out) {
    char text[128];
    unsigned char digest[SHA_DIGEST_LENGTH];
    int size = snprintf(text, sizeof text, "%.64s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    SHA1((unsigned char *)text, (size_t)size, digest);
    EVP_EncodeBlock((unsigned char *)out, digest, sizeof digest);
}

// --- JSON

const char *json_value(const char *text, size_t size, const char *key) {
    char quoted[48];
    int length = snprintf(quoted, sizeof quoted, "\"%s\"", key);
    const char *end = text + size;
    for (const char *at = text; (at = memmem(at, (size_t)(end - at), quoted, (size_t)length)); at++) {
        const char *value = at + length;
        while (value < end && *value == ' ')
            value++;
        if (value < end && *value == ':') { // otherwise it was a value, not a key
            for (value++; value < end && *value == ' '; value++)
                ;
            return value;
        }
    }
    return NULL;
}
