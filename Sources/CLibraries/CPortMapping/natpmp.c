#include <arpa/inet.h>
#include <natpmp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "CPortMapping.h"

static const char *describe(int code)
{
    switch (code) {
    case NATPMP_ERR_NOGATEWAYSUPPORT: return "the gateway does not answer NAT-PMP";
    case NATPMP_ERR_UNSUPPORTEDVERSION: return "the gateway speaks another version of NAT-PMP";
    case NATPMP_ERR_UNSUPPORTEDOPCODE: return "the gateway does not forward ports by NAT-PMP";
    case NATPMP_ERR_NOTAUTHORIZED: return "the gateway refuses to forward ports by NAT-PMP";
    case NATPMP_ERR_NETWORKFAILURE: return "the gateway has no connection to the internet";
    case NATPMP_ERR_OUTOFRESOURCES: return "the gateway has no more ports to forward";
    case NATPMP_ERR_RECVFROM: return "the gateway does not accept NAT-PMP";
    default: return "NAT-PMP failed";
    }
}

static long now_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/// Waits for the answer to the request just sent, which the library repeats.
static int answer(natpmp_t *natpmp, natpmpresp_t *response, long deadline)
{
    for (;;) {
        struct timeval timeout;
        if (getnatpmprequesttimeout(natpmp, &timeout) != 0) return NATPMP_ERR_NOPENDINGREQ;
        long wait = timeout.tv_sec * 1000 + timeout.tv_usec / 1000;
        long left = deadline - now_ms();
        if (left <= 0) return NATPMP_ERR_NOGATEWAYSUPPORT;
        struct pollfd descriptor = {.fd = natpmp->s, .events = POLLIN};
        poll(&descriptor, 1, (int)(wait < left ? (wait > 0 ? wait : 0) : left));
        int code = readnatpmpresponseorretry(natpmp, response);
        if (code != NATPMP_TRYAGAIN) return code;
    }
}

static int fail(char *message, int code)
{
    snprintf(message, MARTLET_PORT_MAPPING_TEXT, "%s", describe(code));
    return code;
}

int martlet_natpmp_map(
    uint32_t gateway, struct martlet_port_mapping *mappings, size_t count, int timeout_ms, uint32_t *external_address,
    uint32_t *epoch, char *message)
{
    natpmp_t natpmp;
    natpmpresp_t response;
    int code = initnatpmp(&natpmp, 1, gateway);
    if (code != 0) return fail(message, code);
    code = sendpublicaddressrequest(&natpmp);
    if (code >= 0) code = answer(&natpmp, &response, now_ms() + timeout_ms);
    if (code != 0 || response.type != NATPMP_RESPTYPE_PUBLICADDRESS) {
        closenatpmp(&natpmp);
        return fail(message, code != 0 ? code : NATPMP_ERR_UNDEFINEDERROR);
    }
    *external_address = response.pnu.publicaddress.addr.s_addr;
    *epoch = response.epoch;
    for (size_t index = 0; index < count; index++) {
        struct martlet_port_mapping *mapping = &mappings[index];
        // A mapping is removed by port 0 and lifetime 0.
        code = sendnewportmappingrequest(
            &natpmp, mapping->is_tcp ? NATPMP_PROTOCOL_TCP : NATPMP_PROTOCOL_UDP, mapping->internal_port,
            mapping->lifetime == 0 ? 0 : mapping->external_port, mapping->lifetime);
        // A late answer to a repeated request may come first.
        for (int attempt = 0; attempt < 4; attempt++) {
            if (code >= 0) code = answer(&natpmp, &response, now_ms() + timeout_ms);
            if (code != 0) break;
            int wanted = mapping->is_tcp ? NATPMP_RESPTYPE_TCPPORTMAPPING : NATPMP_RESPTYPE_UDPPORTMAPPING;
            if (response.type == wanted && response.pnu.newportmapping.privateport == mapping->internal_port) break;
            natpmp.has_pending_request = 1;
        }
        mapping->error = code;
        if (code != 0) {
            snprintf(mapping->message, sizeof mapping->message, "%s", describe(code));
            continue;
        }
        mapping->external_port = response.pnu.newportmapping.mappedpublicport;
        mapping->lifetime = response.pnu.newportmapping.lifetime;
    }
    closenatpmp(&natpmp);
    return 0;
}

int martlet_source_address(uint32_t address, uint32_t *source)
{
    int descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0) return -1;
    struct sockaddr_in remote = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr = {.s_addr = address}};
    struct sockaddr_in local;
    socklen_t size = sizeof local;
    // Connecting a datagram socket sends nothing.
    int code = connect(descriptor, (struct sockaddr *)&remote, sizeof remote);
    if (code == 0) code = getsockname(descriptor, (struct sockaddr *)&local, &size);
    close(descriptor);
    if (code == 0) *source = local.sin_addr.s_addr;
    return code;
}
