// Counts, and samples in whole microseconds: sorted at the end, so percentiles are exact.
#include "load.h"

#include <stdio.h>
#include <stdlib.h>

Up up;
Down down;
Answers answers;
uint64_t sessions_lost;

void sample(Samples *samples, int64_t ns) {
    if (samples->count == samples->room) {
        samples->room = samples->room ? 2 * samples->room : 1 << 16;
        samples->us = realloc(samples->us, samples->room * sizeof *samples->us);
        if (!samples->us)
            die("out of memory");
    }
    int64_t us = ns < 0 ? 0 : ns / 1000;
    samples->us[samples->count++] = us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

static int ascending(const void *a, const void *b) {
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

// `scale`: microseconds to milliseconds; 1 for samples that are counts.
static void print_samples(const char *name, Samples *samples, double scale, const char *end) {
    qsort(samples->us, samples->count, sizeof *samples->us, ascending);
    double p50 = 0, p95 = 0, p99 = 0, max = 0;
    if (samples->count) {
        p50 = samples->us[samples->count / 2] / scale;
        p95 = samples->us[samples->count * 95 / 100] / scale;
        p99 = samples->us[samples->count * 99 / 100] / scale;
        max = samples->us[samples->count - 1] / scale;
    }
    printf("\"%s\":{\"count\":%zu,\"p50\":%.3f,\"p95\":%.3f,\"p99\":%.3f,\"max\":%.3f}%s", name, samples->count, p50, p95,
           p99, max, end);
}

static void print_count(const char *name, uint64_t count) { printf("\"%s\":%llu,", name, (unsigned long long)count); }

void figures_print(double busy) {
    printf("{\"event\":\"figures\",");
    printf("\"load_busy\":%.3f,", busy);
    print_count("sessions_lost", sessions_lost);
    printf("\"up\":{");
    print_count("sent", up.sent);
    print_count("received", up.received);
    print_count("lost", up.sent - up.received);
    print_count("disordered", up.disordered);
    print_count("garbled", up.garbled);
    print_count("crosstalk", up.crosstalk);
    print_count("filled", up.filled);
    print_samples("delay_ms", &up.delay, 1000, ",");
    print_samples("send_late_ms", &up.send_late, 1000, "},");
    printf("\"down\":{");
    print_count("frames", down.frames);
    print_count("silence", down.silence);
    print_count("lost", down.lost);
    print_count("disordered", down.disordered);
    print_count("garbled", down.garbled);
    print_count("crosstalk", down.crosstalk);
    print_count("stale", down.stale);
    print_count("foreign", down.foreign);
    print_count("rtp_lost", down.rtp_lost);
    print_count("fell_silent", down.fell_silent);
    print_samples("pacing_ms", &down.pacing, 1000, ",");
    print_samples("grid_ms", &down.grid, 1000, ",");
    print_samples("drift_ms", &down.drift, 1000, ",");
    print_samples("first_audio_ms", &down.first_audio, 1000, ",");
    print_samples("turn_added_ms", &down.turn_added, 1000, "},");
    printf("\"answers\":{");
    print_count("begun", answers.begun);
    print_count("whole", answers.whole);
    print_count("cut", answers.cut);
    print_count("truncate_missing", answers.truncate_missing);
    print_count("truncate_wrong", answers.truncate_wrong);
    print_samples("after_frames", &answers.after_frames, 1, ",");
    print_samples("after_ms", &answers.after, 1000, "}}\n");
    fflush(stdout);
}
