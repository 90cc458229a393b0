#include <arpa/inet.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "CPortMapping.h"

#ifdef __linux__
#include <linux/errqueue.h>
#include <netinet/in.h>

static long now_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static int open_hop(uint32_t address, uint16_t port, int ttl, const void *packet, size_t size)
{
    int descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor < 0) return -1;
    int one = 1;
    struct sockaddr_in remote = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {.s_addr = address}};
    if (setsockopt(descriptor, IPPROTO_IP, IP_TTL, &ttl, sizeof ttl) != 0
        || setsockopt(descriptor, IPPROTO_IP, IP_RECVERR, &one, sizeof one) != 0
        || sendto(descriptor, packet, size, 0, (struct sockaddr *)&remote, sizeof remote) < 0) {
        close(descriptor);
        return -1;
    }
    return descriptor;
}

/// The router whose report of an expired packet waits at the socket; 0 if none does.
static uint32_t reporter(int descriptor)
{
    char payload[64], control[512];
    struct iovec part = {.iov_base = payload, .iov_len = sizeof payload};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    if (recvmsg(descriptor, &message, MSG_ERRQUEUE) < 0) return 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != IPPROTO_IP || header->cmsg_type != IP_RECVERR) continue;
        if (header->cmsg_len < CMSG_LEN(sizeof(struct sock_extended_err) + sizeof(struct sockaddr_in))) continue;
        struct sock_extended_err error;
        struct sockaddr_in offender;
        memcpy(&error, CMSG_DATA(header), sizeof error);
        memcpy(&offender, CMSG_DATA(header) + sizeof error, sizeof offender);
        // ICMP's type 11, time exceeded.
        if (error.ee_origin == SO_EE_ORIGIN_ICMP && error.ee_type == 11 && offender.sin_family == AF_INET)
            return offender.sin_addr.s_addr;
    }
    return 0;
}

void martlet_trace(
    uint32_t address, uint16_t port, const void *packet, size_t size, int timeout_ms, uint32_t *hops, size_t count)
{
    struct pollfd descriptors[MARTLET_TRACE_LIMIT];
    if (count > MARTLET_TRACE_LIMIT) count = MARTLET_TRACE_LIMIT;
    for (size_t index = 0; index < count; index++) {
        hops[index] = 0;
        descriptors[index] = (struct pollfd){.fd = open_hop(address, port, (int)index + 1, packet, size)};
    }
    long deadline = now_ms() + timeout_ms;
    for (;;) {
        size_t waiting = 0;
        for (size_t index = 0; index < count; index++) waiting += descriptors[index].fd >= 0;
        long left = deadline - now_ms();
        if (waiting == 0 || left <= 0 || poll(descriptors, count, (int)left) <= 0) break;
        for (size_t index = 0; index < count; index++) {
            if (descriptors[index].fd < 0 || !descriptors[index].revents) continue;
            hops[index] = reporter(descriptors[index].fd);
            close(descriptors[index].fd);
            descriptors[index].fd = -1;
        }
    }
    for (size_t index = 0; index < count; index++)
        if (descriptors[index].fd >= 0) close(descriptors[index].fd);
}
#else
// Elsewhere only root is told which router sent a packet back.
void martlet_trace(
    uint32_t address, uint16_t port, const void *packet, size_t size, int timeout_ms, uint32_t *hops, size_t count)
{
    (void)address, (void)port, (void)packet, (void)size, (void)timeout_ms;
    memset(hops, 0, count * sizeof *hops);
}
#endif
