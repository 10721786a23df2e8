// A flood: packets of somebody who is no part of any call, at RTP ports of calls that are up. Loopback only, for a
// bounded time, at an even rate; ends by itself, or with the end of stdin.
//
//   flood random|rtp RATE SECONDS PORT...
//
// `random` are 172 random bytes, `rtp` a well-formed stream of loud µ-law with its own SSRC for each port. Prints how
// many packets the kernel took and how long that lasted.
#define _GNU_SOURCE
#include "wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 50, MAX_RATE = 1000000, MAX_SECONDS = 120 };

static uint64_t random_state = 88172645463325252;

static uint64_t random64(void) {
    random_state ^= random_state << 13, random_state ^= random_state >> 7, random_state ^= random_state << 17;
    return random_state;
}

static void fill_random(uint8_t *packet) {
    for (int i = 0; i < RTP_BYTES; i += 4) {
        uint32_t bytes = (uint32_t)random64();
        memcpy(packet + i, &bytes, sizeof bytes);
    }
}

static void fill_rtp(uint8_t *packet, uint32_t port, uint32_t number) {
    uint16_t sequence = htons((uint16_t)number);
    uint32_t timestamp = htonl(number * FRAME_BYTES), ssrc = htonl(0xF100D000u + port);
    packet[0] = 0x80, packet[1] = 0;
    memcpy(packet + 2, &sequence, 2);
    memcpy(packet + 4, &timestamp, 4);
    memcpy(packet + 8, &ssrc, 4);
    memset(packet + RTP_HEADER_BYTES, 0x90, FRAME_BYTES);
}

int main(int count, char **words) {
    if (count < 5)
        die("flood random|rtp RATE SECONDS PORT...");
    bool rtp = !strcmp(words[1], "rtp");
    int64_t rate = atoll(words[2]);
    double seconds = atof(words[3]);
    int ports = count - 4;
    if (rate < BATCH || rate > MAX_RATE || seconds <= 0 || seconds > MAX_SECONDS)
        die("%d to %d packets a second, for %d s at most", BATCH, MAX_RATE, MAX_SECONDS);
    int udp = socket(AF_INET, SOCK_DGRAM, 0);
    static uint8_t packets[BATCH][RTP_BYTES];
    struct sockaddr_in to[BATCH];
    struct iovec parts[BATCH];
    struct mmsghdr messages[BATCH];
    uint64_t sent = 0;
    int64_t began = now_ns(), until = began + (int64_t)(seconds * 1e9);
    for (int64_t at = began; at < until; at += BATCH * 1000000000LL / rate) {
        struct timespec wake = {at / 1000000000LL, at % 1000000000LL};
        clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &wake, NULL);
        struct pollfd orders = {.fd = STDIN_FILENO};
        if (poll(&orders, 1, 0) && orders.revents & POLLHUP)
            break;
        for (int i = 0; i < BATCH; i++) {
            uint64_t number = sent + (uint64_t)i;
            int port = atoi(words[4 + number % (uint64_t)ports]);
            to[i] = (struct sockaddr_in){.sin_family = AF_INET,
                                         .sin_port = htons((uint16_t)port),
                                         .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
            if (rtp)
                fill_rtp(packets[i], (uint32_t)port, (uint32_t)(number / (uint64_t)ports));
            else
                fill_random(packets[i]);
            parts[i] = (struct iovec){packets[i], RTP_BYTES};
            messages[i] = (struct mmsghdr){
                .msg_hdr = {.msg_name = &to[i], .msg_namelen = sizeof to[i], .msg_iov = &parts[i], .msg_iovlen = 1}};
        }
        int took = sendmmsg(udp, messages, BATCH, 0);
        sent += took > 0 ? (uint64_t)took : 0;
    }
    printf("{\"sent\":%llu,\"seconds\":%.3f}\n", (unsigned long long)sent, (double)(now_ns() - began) / 1e9);
}
