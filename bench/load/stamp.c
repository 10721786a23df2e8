// Stamps are audio that a voice detector finds quiet: each nibble is a µ-law byte 0xF0 to 0xFF, an amplitude of
// at most 120 of 32768. The rest of a frame is silence, or a tone where somebody speaks.
#include "load.h"

#include <math.h>
#include <string.h>

enum { CALL = 4, NUMBER = 8, TIME = 13, FRAME = 4, CHECK = 4 }; // widths in nibbles
enum { CALLER_BYTES = CALL + NUMBER + TIME + CHECK, AGENT_BYTES = CALL + NUMBER + FRAME + CHECK };

static uint8_t silence[FRAME_BYTES], caller_voice[FRAME_BYTES], agent_voice[FRAME_BYTES];

static uint8_t ulaw(int sample) {
    int sign = sample < 0 ? 0x80 : 0, magnitude = (sample < 0 ? -sample : sample) + 132, exponent = 7;
    while (exponent > 0 && !(magnitude & 0x80 << exponent))
        exponent--;
    return (uint8_t)~(sign | exponent << 4 | (magnitude >> (exponent + 3) & 15));
}

void stamp_open(void) {
    memset(silence, 0xFF, sizeof silence);
    for (int i = 0; i < FRAME_BYTES; i++) {
        caller_voice[i] = ulaw((int)(6000 * sin(2 * M_PI * 200 * i / 8000)));
        agent_voice[i] = ulaw((int)(8000 * sin(2 * M_PI * 400 * i / 8000)));
    }
}

static uint8_t *put(uint8_t *to, uint64_t value, int nibbles) {
    for (int i = nibbles; i--; value >>= 4)
        to[i] = (uint8_t)(0xF0 | (value & 15));
    return to + nibbles;
}

static const uint8_t *get(const uint8_t *from, uint64_t *value, int nibbles) {
    *value = 0;
    for (int i = 0; i < nibbles; i++)
        *value = *value << 4 | (from[i] & 15);
    return from + nibbles;
}

static uint64_t check(uint64_t a, uint64_t b, uint64_t c) {
    return ((a * 0x9E3779B97F4A7C15 ^ b) * 0xBF58476D1CE4E5B9 ^ c) * 0x94D049BB133111EB >> 48;
}

void stamp_caller(uint8_t *payload, const Stamp *stamp, bool voiced) {
    uint64_t sent_us = (uint64_t)stamp->sent_at / 1000;
    memcpy(payload, voiced ? caller_voice : silence, FRAME_BYTES);
    uint8_t *at = put(put(put(payload, stamp->call, CALL), stamp->number, NUMBER), sent_us, TIME);
    put(at, check(stamp->call, stamp->number, sent_us), CHECK);
}

void stamp_agent(uint8_t *payload, const Stamp *stamp) {
    memcpy(payload, agent_voice, FRAME_BYTES);
    uint8_t *at = put(put(put(payload, stamp->call, CALL), stamp->number, NUMBER), stamp->frame, FRAME);
    put(at, check(stamp->call, stamp->number, stamp->frame), CHECK);
}

static bool rest_is(const uint8_t *payload, const uint8_t *pattern, size_t from) {
    return !memcmp(payload + from, pattern + from, FRAME_BYTES - from);
}

bool stamp_read_caller(const uint8_t *payload, size_t size, Stamp *stamp) {
    if (size != FRAME_BYTES)
        return false;
    uint64_t call, number, sent_us, sum;
    get(get(get(get(payload, &call, CALL), &number, NUMBER), &sent_us, TIME), &sum, CHECK);
    *stamp = (Stamp){.call = (uint32_t)call, .number = (uint32_t)number, .sent_at = (int64_t)sent_us * 1000};
    return sum == check(call, number, sent_us) &&
           (rest_is(payload, silence, CALLER_BYTES) || rest_is(payload, caller_voice, CALLER_BYTES));
}

bool stamp_read_agent(const uint8_t *payload, size_t size, Stamp *stamp) {
    if (size != FRAME_BYTES)
        return false;
    uint64_t call, number, frame, sum;
    get(get(get(get(payload, &call, CALL), &number, NUMBER), &frame, FRAME), &sum, CHECK);
    *stamp = (Stamp){.call = (uint32_t)call, .number = (uint32_t)number, .frame = (uint32_t)frame};
    return sum == check(call, number, frame) && rest_is(payload, agent_voice, AGENT_BYTES);
}

bool is_silence(const uint8_t *payload, size_t size) {
    return size == FRAME_BYTES && !memcmp(payload, silence, FRAME_BYTES);
}
