#define _GNU_SOURCE
#include "CMartlet.h"
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#if defined(__linux__)
#include <linux/filter.h>
#include <sys/eventfd.h>
#endif

#if !defined(__linux__)
static int prepare(int descriptor) {
    if (descriptor < 0) return descriptor;
    if (fcntl(descriptor, F_SETFD, FD_CLOEXEC) != 0 || fcntl(descriptor, F_SETFL, O_NONBLOCK) != 0) {
        int code = errno;
        close(descriptor);
        errno = code;
        return -1;
    }
    return descriptor;
}
#endif

int martlet_accept(int descriptor, void *address, unsigned int *length) {
#if defined(__linux__)
    return accept4(descriptor, address, length, SOCK_NONBLOCK | SOCK_CLOEXEC);
#else
    return prepare(accept(descriptor, address, length));
#endif
}

int martlet_socket(int family, int type) {
#if defined(__linux__)
    return socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
#else
    return prepare(socket(family, type, 0));
#endif
}

void martlet_control_congestion(int descriptor, unsigned int round_trip, const char *name) {
#if defined(__linux__)
    struct tcp_info info;
    socklen_t length = sizeof info;
    memset(&info, 0, sizeof info);
    if (getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &info, &length) != 0 || info.tcpi_rtt < round_trip) return;
    // A kernel that does not have it, or that grants it to root alone, goes on as before.
    setsockopt(descriptor, IPPROTO_TCP, TCP_CONGESTION, name, (socklen_t)strlen(name));
#else
    (void)descriptor, (void)round_trip, (void)name;
#endif
}

int martlet_wake_open(int descriptors[2]) {
#if defined(__linux__)
    descriptors[0] = descriptors[1] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return descriptors[0] < 0 ? errno : 0;
#else
    if (pipe(descriptors) != 0) return errno;
    prepare(descriptors[0]);
    prepare(descriptors[1]);
    return 0;
#endif
}

void martlet_wake_send(const int descriptors[2]) {
    uint64_t one = 1;
    ssize_t n;
    // A full counter or pipe is as good as a delivered wake-up.
    do n = write(descriptors[1], &one, sizeof one); while (n < 0 && errno == EINTR);
}

void martlet_wake_drain(const int descriptors[2]) {
    char scratch[512];
    ssize_t n;
#if defined(__linux__)
    do n = read(descriptors[0], scratch, 8); while (n < 0 && errno == EINTR);
#else
    do n = read(descriptors[0], scratch, sizeof scratch); while (n == sizeof scratch || (n < 0 && errno == EINTR));
#endif
}

void martlet_wake_close(int descriptors[2]) {
    close(descriptors[0]);
    if (descriptors[1] != descriptors[0]) close(descriptors[1]);
}

#if defined(__linux__)
typedef struct mmsghdr message_t;
#else
typedef struct { struct msghdr msg_hdr; unsigned int msg_len; } message_t;
#endif

struct martlet_batch {
    message_t messages[MARTLET_BATCH_LIMIT];
    struct iovec vectors[MARTLET_BATCH_LIMIT];
    struct sockaddr_storage addresses[MARTLET_BATCH_LIMIT];
    // Room for the size of joined datagrams.
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } controls[MARTLET_BATCH_LIMIT];
};

// Younger than some C libraries.
#if defined(__linux__)
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#endif

martlet_batch *martlet_batch_create(void) { return calloc(1, sizeof(martlet_batch)); }
void martlet_batch_destroy(martlet_batch *batch) { free(batch); }

int martlet_batch_receive(martlet_batch *batch, int descriptor, void *base, size_t slot, int count) {
    if (count > MARTLET_BATCH_LIMIT) count = MARTLET_BATCH_LIMIT;
    for (int i = 0; i < count; i++) {
        batch->vectors[i].iov_base = (char *)base + slot * (size_t)i;
        batch->vectors[i].iov_len = slot;
        struct msghdr *header = &batch->messages[i].msg_hdr;
        memset(header, 0, sizeof *header);
        header->msg_name = &batch->addresses[i];
        header->msg_namelen = sizeof batch->addresses[i];
        header->msg_iov = &batch->vectors[i];
        header->msg_iovlen = 1;
        header->msg_control = &batch->controls[i];
        header->msg_controllen = sizeof batch->controls[i];
    }
    int n;
#if defined(__linux__)
    do n = recvmmsg(descriptor, batch->messages, (unsigned)count, MSG_DONTWAIT, 0); while (n < 0 && errno == EINTR);
#else
    for (n = 0; n < count; n++) {
        ssize_t length = recvmsg(descriptor, &batch->messages[n].msg_hdr, MSG_DONTWAIT);
        if (length < 0) { if (n == 0) n = -1; break; }
        batch->messages[n].msg_len = (unsigned)length;
    }
#endif
    return n < 0 ? -errno : n;
}

size_t martlet_batch_length(const martlet_batch *batch, int index) { return batch->messages[index].msg_len; }

int martlet_batch_is_truncated(const martlet_batch *batch, int index) {
    return (batch->messages[index].msg_hdr.msg_flags & MSG_TRUNC) != 0;
}

size_t martlet_batch_segment(const martlet_batch *batch, int index) {
#if defined(__linux__)
    // The functions that walk control messages take no const.
    struct msghdr *header = (struct msghdr *)&batch->messages[index].msg_hdr;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
        if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
            int size;
            memcpy(&size, CMSG_DATA(c), sizeof size);
            return size > 0 ? (size_t)size : 0;
        }
    }
#endif
    (void)batch, (void)index;
    return 0;
}

void martlet_prepare_segments(int descriptor, int is_ip6) {
#if defined(__linux__)
    int on = 1, probe = IP_PMTUDISC_PROBE, probe6 = IPV6_PMTUDISC_PROBE;
    setsockopt(descriptor, IPPROTO_UDP, UDP_GRO, &on, sizeof on);
    if (is_ip6) {
        setsockopt(descriptor, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &probe6, sizeof probe6);
    } else {
        setsockopt(descriptor, IPPROTO_IP, IP_MTU_DISCOVER, &probe, sizeof probe);
    }
#else
    (void)descriptor, (void)is_ip6;
#endif
}

int martlet_share_port(int descriptor, int is_shared) {
#if defined(__linux__)
    return setsockopt(descriptor, SOL_SOCKET, SO_REUSEPORT, &is_shared, sizeof is_shared) == 0 ? 0 : errno;
#else
    (void)descriptor, (void)is_shared;
    return EOPNOTSUPP;
#endif
}

int martlet_steer_by_connection_id(int descriptor, unsigned int count) {
#if defined(__linux__) && defined(SO_ATTACH_REUSEPORT_CBPF)
    // A byte that is not there ends the program with 0, the first socket.
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x40, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x80, 2, 0),
        // A short header: the id follows (RFC 9000, 17.3).
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 1),
        BPF_STMT(BPF_JMP | BPF_JA, 4),
        // A long one: four bytes of version, one with the id's length, the id (17.2).
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 5),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 6),
        BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, count),
        BPF_STMT(BPF_RET | BPF_A, 0),
    };
    struct sock_fprog filter = {sizeof program / sizeof program[0], program};
    if (count == 0) return EINVAL;
    return setsockopt(descriptor, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &filter, sizeof filter) == 0 ? 0 : errno;
#else
    (void)descriptor, (void)count;
    return EOPNOTSUPP;
#endif
}

int martlet_send_segments(int descriptor, const void *base, size_t length, size_t segment, const void *address,
    unsigned int address_length) {
#if defined(__linux__)
    struct iovec vector = {(void *)base, length};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(uint16_t))];
    } control;
    struct msghdr message;
    memset(&message, 0, sizeof message);
    message.msg_name = (void *)address;
    message.msg_namelen = address_length;
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    if (segment < length) {
        memset(&control, 0, sizeof control);
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        uint16_t size = (uint16_t)segment;
        c->cmsg_level = IPPROTO_UDP;
        c->cmsg_type = UDP_SEGMENT;
        c->cmsg_len = CMSG_LEN(sizeof size);
        memcpy(CMSG_DATA(c), &size, sizeof size);
    }
    ssize_t n;
    do n = sendmsg(descriptor, &message, MSG_NOSIGNAL | MSG_DONTWAIT); while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
#else
    (void)descriptor, (void)base, (void)length, (void)segment, (void)address, (void)address_length;
    return -EOPNOTSUPP;
#endif
}

const void *martlet_batch_address(const martlet_batch *batch, int index, unsigned int *length) {
    *length = batch->messages[index].msg_hdr.msg_namelen;
    return &batch->addresses[index];
}

void martlet_batch_put(martlet_batch *batch, int index, const void *base, size_t length, const void *address,
    unsigned int address_length) {
    batch->vectors[index].iov_base = (void *)base;
    batch->vectors[index].iov_len = length;
    struct msghdr *header = &batch->messages[index].msg_hdr;
    memset(header, 0, sizeof *header);
    if (address && address_length <= sizeof batch->addresses[index]) {
        memcpy(&batch->addresses[index], address, address_length);
        header->msg_name = &batch->addresses[index];
        header->msg_namelen = address_length;
    }
    header->msg_iov = &batch->vectors[index];
    header->msg_iovlen = 1;
}

int martlet_batch_send(martlet_batch *batch, int descriptor, int first, int count) {
    int n;
#if defined(__linux__)
    do n = sendmmsg(descriptor, batch->messages + first, (unsigned)count, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
#else
    for (n = 0; n < count; n++) {
        if (sendmsg(descriptor, &batch->messages[first + n].msg_hdr, MSG_DONTWAIT) < 0) { if (n == 0) n = -1; break; }
    }
#endif
    return n < 0 ? -errno : n;
}
