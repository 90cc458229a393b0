#include "CMartlet.h"

#if defined(__linux__)
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <unistd.h>

int martlet_open_address_events(void) {
    int descriptor = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (descriptor < 0) return -1;
    struct sockaddr_nl address = {
        .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE};
    if (bind(descriptor, (struct sockaddr *)&address, sizeof address) == 0) return descriptor;
    close(descriptor);
    return -1;
}

void martlet_drain_address_events(int descriptor) {
    char buffer[8192];
    // What they say is looked up afterwards, so that one that was lost because there were too many (ENOBUFS) is no loss.
    for (int count = 0; count < 256; count++)
        if (recv(descriptor, buffer, sizeof buffer, 0) < 0 && errno != EINTR && errno != ENOBUFS) return;
}
#else
int martlet_open_address_events(void) { return -1; }
void martlet_drain_address_events(int descriptor) { (void)descriptor; }
#endif
