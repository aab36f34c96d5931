/* The plain C loop that the probe's engines are measured against, and the responder that answers all of them.
 *
 *   c_loop respond [ADDRESS]           answer NTP client requests for ever; prints the port, stops at end of input
 *   c_loop ask ADDRESS PORT COUNT N    make COUNT exchanges with N in flight; prints elapsed and CPU nanoseconds
 *
 * Both use sendmmsg/recvmmsg on one socket, busy as fast as the kernel lets them. The asker matches replies by their
 * origin timestamp and takes kernel receive timestamps, as the engines do: it is what C does for the same work.
 * Nothing is retried: loopback loses nothing while fewer datagrams are in flight than a socket buffer holds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH 64
#define PACKET 48
#define UNIX_TO_NTP_S 2208988800ULL

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now_ns(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000ULL + (uint64_t)time.tv_nsec;
}

static uint64_t cpu_ns(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return ((uint64_t)usage.ru_utime.tv_sec + (uint64_t)usage.ru_stime.tv_sec) * 1000000000ULL +
           ((uint64_t)usage.ru_utime.tv_usec + (uint64_t)usage.ru_stime.tv_usec) * 1000ULL;
}

static struct sockaddr_in ipv4(const char *address, int port)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, address, &name.sin_addr) != 1) {
        fprintf(stderr, "c_loop: address %s: give an IPv4 address\n", address);
        exit(2);
    }
    return name;
}

static int udp_socket(void)
{
    int size = 4 << 20, fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (fd < 0)
        die("socket");
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    return fd;
}

struct datagrams {
    unsigned char bytes[BATCH][256];
    unsigned char control[BATCH][CMSG_SPACE(sizeof(struct timespec))];
    struct sockaddr_in name[BATCH];
    struct iovec vector[BATCH];
    struct mmsghdr message[BATCH];
};

static void prepare(struct datagrams *box, int receiving)
{
    for (int i = 0; i < BATCH; i++) {
        box->vector[i].iov_base = box->bytes[i];
        box->vector[i].iov_len = receiving ? sizeof box->bytes[i] : PACKET;
        box->message[i].msg_hdr = (struct msghdr){
            .msg_name = &box->name[i],
            .msg_namelen = sizeof box->name[i],
            .msg_iov = &box->vector[i],
            .msg_iovlen = 1,
            .msg_control = receiving ? box->control[i] : NULL,
            .msg_controllen = receiving ? sizeof box->control[i] : 0,
        };
    }
}

static void put_time(unsigned char *at)
{
    uint64_t ns = now_ns(CLOCK_REALTIME);
    uint32_t seconds = htonl((uint32_t)(ns / 1000000000ULL + UNIX_TO_NTP_S));
    uint32_t fraction = htonl((uint32_t)(((ns % 1000000000ULL) << 32) / 1000000000ULL));
    memcpy(at, &seconds, 4);
    memcpy(at + 4, &fraction, 4);
}

static int respond(const char *address)
{
    static struct datagrams box;
    struct sockaddr_in name = ipv4(address, 0);
    socklen_t length = sizeof name;
    int fd = udp_socket();
    if (bind(fd, (struct sockaddr *)&name, sizeof name) < 0 || getsockname(fd, (struct sockaddr *)&name, &length) < 0)
        die("bind");
    printf("%d\n", ntohs(name.sin_port));
    fflush(stdout);
    struct pollfd ready[2] = {{.fd = fd, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
    for (;;) {
        if (poll(ready, 2, -1) < 0)
            die("poll");
        if (ready[1].revents) /* our parent closed the pipe, or died */
            return 0;
        for (;;) {
            prepare(&box, 1);
            int count = recvmmsg(fd, box.message, BATCH, MSG_DONTWAIT, NULL), answers = 0;
            if (count <= 0)
                break;
            for (int i = 0; i < count; i++) {
                unsigned char *packet = box.bytes[i];
                if (box.message[i].msg_len < PACKET || (packet[0] & 7) != 3)
                    continue;
                packet[0] = (unsigned char)((packet[0] & 0x38) | 4); /* no leap warning, same version, mode server */
                packet[1] = 1;
                memcpy(packet + 12, "BNCH", 4);
                memcpy(packet + 24, packet + 40, 8); /* origin = their transmit (RFC 5905 section 8) */
                put_time(packet + 32);
                memcpy(packet + 16, packet + 32, 8);
                memcpy(packet + 40, packet + 32, 8);
                box.vector[i].iov_len = PACKET;
                box.message[i].msg_hdr.msg_controllen = 0;
                box.message[answers++] = box.message[i];
            }
            for (int sent = 0; sent < answers;) {
                int done = sendmmsg(fd, box.message + sent, (unsigned)(answers - sent), 0);
                if (done <= 0)
                    break;
                sent += done;
            }
        }
    }
}

static uint64_t scramble(uint64_t index)
{
    uint64_t bits = index * 0x9E3779B97F4A7C15ULL;
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9ULL;
    return bits ^ (bits >> 31);
}

static int ask(const char *address, int port, long total, int window)
{
    static struct datagrams out, in;
    struct sockaddr_in target = ipv4(address, port);
    int on = 1, fd = udp_socket();
    long sent = 0, received = 0, stamped = 0;
    uint64_t pending[BATCH] = {0};
    int idle[BATCH], idle_count = window;
    if (setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on) < 0)
        die("SO_TIMESTAMPNS");
    for (int i = 0; i < window; i++)
        idle[i] = i;
    uint64_t started = now_ns(CLOCK_MONOTONIC), cpu_started = cpu_ns();
    while (received < total) {
        int batch = 0;
        prepare(&out, 0);
        while (idle_count > 0 && sent + batch < total) {
            int slot = idle[--idle_count];
            /* the low six bits say which slot, so that matching is one look-up */
            uint64_t origin = (scramble((uint64_t)(sent + batch + 1)) & ~63ULL) | (uint64_t)slot;
            memset(out.bytes[batch], 0, PACKET);
            out.bytes[batch][0] = 4 << 3 | 3;
            memcpy(out.bytes[batch] + 40, &origin, 8);
            out.name[batch] = target;
            pending[slot] = origin;
            batch++;
        }
        for (int done = 0; done < batch;) {
            int count = sendmmsg(fd, out.message + done, (unsigned)(batch - done), 0);
            if (count < 0)
                die("sendmmsg");
            done += count;
        }
        sent += batch;
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        if (poll(&ready, 1, 2000) == 0) {
            fprintf(stderr, "c_loop: no reply for 2 s after %ld of %ld exchanges\n", received, total);
            return 1;
        }
        prepare(&in, 1);
        int count = recvmmsg(fd, in.message, BATCH, MSG_DONTWAIT, NULL);
        for (int i = 0; i < count; i++) {
            uint64_t origin;
            memcpy(&origin, in.bytes[i] + 24, 8);
            int slot = (int)(origin & 63);
            if (in.message[i].msg_len < PACKET || pending[slot] != origin || in.name[i].sin_port != target.sin_port ||
                in.name[i].sin_addr.s_addr != target.sin_addr.s_addr)
                continue;
            struct cmsghdr *header = CMSG_FIRSTHDR(&in.message[i].msg_hdr);
            stamped += header != NULL && header->cmsg_type == SCM_TIMESTAMPNS;
            pending[slot] = 0;
            idle[idle_count++] = slot;
            received++;
        }
    }
    printf("%llu %llu %ld\n", (unsigned long long)(now_ns(CLOCK_MONOTONIC) - started),
           (unsigned long long)(cpu_ns() - cpu_started), stamped);
    return 0;
}

int main(int count, char **words)
{
    if (count >= 2 && strcmp(words[1], "respond") == 0)
        return respond(count > 2 ? words[2] : "127.0.0.1");
    if (count == 6 && strcmp(words[1], "ask") == 0) {
        int window = atoi(words[5]);
        if (window >= 1 && window <= BATCH)
            return ask(words[2], atoi(words[3]), atol(words[4]), window);
    }
    fprintf(stderr, "usage: c_loop respond [ADDRESS] | c_loop ask ADDRESS PORT COUNT IN_FLIGHT (1..%d)\n", BATCH);
    return 2;
}
