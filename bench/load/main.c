// The loop and the phases of a run: ramp (until every call is up), settle, the window that counts, what is still
// under way. Progress goes to stdout, one JSON object a line; orders come in on stdin, one a line:
//
//   call I PORT    the bridge hears call I at this UDP port: its caller begins to speak
//   start, end     of the window, with --by-order
//   mark           answered by the event of this name: all that was to be told has been told
//
// With --latch nobody needs to say `call`: a caller speaks to whoever is heard first, until that falls silent.
// With --by-order calls come and go as they like, and the first frame that each hears of the agent is told.
// The end of stdin ends the program.
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

enum { ORDERS, LISTENER, SESSION, CALLER }; // what an epoll tag is about, in its upper half
enum { EVENTS = 256 };
#define DRAIN_NS 500000000LL

Run run = {.calls = 1, .interrupted_percent = 25, .voice = true, .seed = 88172645463325252};
Call *calls;

static double settle_s = 5, window_s = 5;
static bool start_ordered, end_ordered;

static int64_t cpu_ns(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000LL +
           (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000LL;
}

static void tell(const char *event) {
    printf("{\"event\":\"%s\"}\n", event);
    fflush(stdout);
}

static void read_orders(void) {
    static char text[4096];
    static size_t used;
    ssize_t got = read(STDIN_FILENO, text + used, sizeof text - used - 1);
    if (got <= 0)
        exit(0);
    used += (size_t)got;
    char *line = text, *end;
    while ((end = memchr(line, '\n', used - (size_t)(line - text)))) {
        int call, port;
        *end = 0;
        if (!strcmp(line, "start"))
            start_ordered = true;
        else if (!strcmp(line, "end"))
            end_ordered = true;
        else if (!strcmp(line, "mark"))
            tell("mark");
        else if (sscanf(line, "call %d %d", &call, &port) == 2 && call >= 0 && call < run.calls)
            callers_start(call, port);
        else
            die("no order: %s", line);
        line = end + 1;
    }
    used -= (size_t)(line - text);
    memmove(text, line, used);
}

// What time brings: called once a turn of the loop.
static void advance(int64_t now) {
    static enum { RAMP, SETTLE, WINDOW, DRAIN, DONE } phase;
    static int64_t until, cpu_from;
    static double busy;
    if (phase == RAMP && run.by_order) {
        phase = SETTLE, until = INT64_MAX;
    } else if (phase == RAMP && model_ready() == run.calls) {
        phase = SETTLE, until = now + (int64_t)(settle_s * 1e9);
        tell("up");
    } else if (phase == SETTLE && (now >= until || start_ordered)) {
        phase = WINDOW, until = run.by_order ? INT64_MAX : now + (int64_t)(window_s * 1e9);
        run.from = now, cpu_from = cpu_ns();
        tell("start");
    } else if (phase == WINDOW && (now >= until || end_ordered)) {
        phase = DRAIN, until = now + DRAIN_NS;
        callers_end(now);
        run.to = now, busy = (double)(cpu_ns() - cpu_from) / (double)(run.to - run.from);
        tell("end");
    } else if (phase == DRAIN && now >= until) {
        phase = DONE;
        figures_print(busy);
    }
}

static void options(int count, char **words) {
    static const struct option known[] = {{"calls", 1, 0, 'n'},       {"settle", 1, 0, 's'},  {"seconds", 1, 0, 'w'},
                                          {"certificate", 1, 0, 'c'}, {"key", 1, 0, 'k'},     {"interrupted", 1, 0, 'i'},
                                          {"no-voice", 0, 0, 'q'},    {"first-port", 1, 0, 'p'},
                                          {"latch", 0, 0, 'l'},       {"by-order", 0, 0, 'o'}, {"lose", 1, 0, 'x'},
                                          {0, 0, 0, 0}};
    for (int option; (option = getopt_long(count, words, "", known, NULL)) != -1;) {
        switch (option) {
        case 'n': run.calls = atoi(optarg); break;
        case 's': settle_s = atof(optarg); break;
        case 'w': window_s = atof(optarg); break;
        case 'c': run.certificate = optarg, run.tls = true; break;
        case 'k': run.key = optarg; break;
        case 'i': run.interrupted_percent = atoi(optarg); break;
        case 'q': run.voice = false; break;
        case 'p': run.first_port = atoi(optarg); break;
        case 'l': run.latch = true; break;
        case 'o': run.by_order = true; break;
        case 'x': run.lose_every = (uint32_t)atoi(optarg); break;
        default: die("see main.c for the options");
        }
    }
    if (run.calls < 1 || run.calls > 10000)
        die("--calls 1 to 10000");
}

int main(int count, char **words) {
    options(count, words);
    prctl(PR_SET_TIMERSLACK, 1000); // 1 us: the grid is ours to keep
    signal(SIGPIPE, SIG_IGN);       // a session that has gone is an error of its write, not our end
    int epoll = epoll_create1(0);
    calls = calloc((size_t)run.calls, sizeof *calls);
    stamp_open();
    callers_open(epoll, CALLER);
    int port = model_open(epoll, LISTENER, SESSION);
    struct epoll_event orders = {.events = EPOLLIN, .data.u64 = (uint64_t)ORDERS << 32};
    epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &orders);
    printf("{\"event\":\"listening\",\"model_port\":%d,\"caller_ports\":[", port);
    for (int i = 0; i < run.calls; i++)
        printf("%s%d", i ? "," : "", calls[i].port);
    printf("]}\n");
    fflush(stdout);
    for (;;) {
        struct epoll_event events[EVENTS];
        int64_t wait = callers_due() - now_ns();
        struct timespec timeout = {.tv_nsec = wait > 0 ? wait : 0}; // always within 20 ms
        int got = epoll_pwait2(epoll, events, EVENTS, &timeout, NULL);
        if (got < 0 && errno != EINTR)
            die("epoll: %s", strerror(errno));
        for (int i = 0; i < got; i++) {
            uint32_t number = (uint32_t)events[i].data.u64;
            switch (events[i].data.u64 >> 32) {
            case ORDERS: read_orders(); break;
            case LISTENER: model_accept(); break;
            case SESSION: model_event((int)number, events[i].events); break;
            case CALLER: callers_read(&calls[number]); break;
            }
        }
        callers_run(now_ns());
        model_run(now_ns());
        advance(now_ns());
    }
}
