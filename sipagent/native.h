// G.711 in C, for native.pxd: what audioop does in two calls with 320 bytes between them.
#include <math.h>
#include <stddef.h>
#include <stdint.h>

static int16_t g711_linear[2][256];

static int16_t g711_decode(uint8_t code, int mu_law) { // ITU-T G.711, tables 1a and 2a, as 16 bits
    code ^= mu_law ? 0xFF : 0x55;
    int segment = (code & 0x70) >> 4, step = code & 0x0F, value;
    if (mu_law)
        value = (((step << 3) + 132) << segment) - 132;
    else
        value = segment ? ((step << 4) + 264) << (segment - 1) : (step << 4) + 8;
    return (int16_t)((code & 0x80) == (mu_law ? 0x80 : 0) ? -value : value);
}

static int g711_rms(const uint8_t *codes, size_t count, int mu_law) {
    int16_t *linear = g711_linear[mu_law];
    if (!linear[0]) // no code 0 means silence
        for (int code = 0; code < 256; code++)
            linear[code] = g711_decode((uint8_t)code, mu_law);
    int64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += linear[codes[i]] * linear[codes[i]];
    return count ? (int)sqrt((double)sum / (double)count) : 0;
}
