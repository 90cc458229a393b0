// Asking a gateway to forward ports, by UPnP IGD (miniupnpc) and NAT-PMP (libnatpmp). Every function blocks.
#ifndef CPORTMAPPING_H
#define CPORTMAPPING_H

#include <stddef.h>
#include <stdint.h>

#define MARTLET_PORT_MAPPING_TEXT 128

/// One port to be forwarded, and what the gateway said of it.
struct martlet_port_mapping {
    int is_tcp;
    uint16_t internal_port;
    /// Wanted, then given.
    uint16_t external_port;
    /// Seconds, wanted, then given; 0 removes. As an answer of UPnP, 0 stands for ever.
    uint32_t lifetime;
    /// 0 when it was done.
    int error;
    char message[MARTLET_PORT_MAPPING_TEXT];
};

/// Returns 0 when the gateway answered at all; then each mapping has its own error.
int martlet_natpmp_map(
    uint32_t gateway, struct martlet_port_mapping *mappings, size_t count, int timeout_ms, uint32_t *external_address,
    char *message);

/// `local_address` is the address of the interface to look for gateways on, as text.
int martlet_upnp_map(
    const char *local_address, struct martlet_port_mapping *mappings, size_t count, int timeout_ms, char *external_address,
    size_t external_address_size, char *message);

/// The address that packets to `address` leave from; both in network byte order. Returns 0 when there is one.
int martlet_source_address(uint32_t address, uint32_t *source);

#endif
