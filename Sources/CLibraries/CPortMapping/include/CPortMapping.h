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
    /// Of a pinhole: what the gateway names it by; 0 while it has none.
    uint16_t pinhole;
    /// 0 when it was done.
    int error;
    char message[MARTLET_PORT_MAPPING_TEXT];
};

/// Returns 0 when the gateway answered at all; then each mapping has its own error. Without mappings it asks for the address and
/// the epoch, the seconds since the gateway lost its state, alone.
int martlet_natpmp_map(
    uint32_t gateway, struct martlet_port_mapping *mappings, size_t count, int timeout_ms, uint32_t *external_address,
    uint32_t *epoch, char *message);

#define MARTLET_UPNP_LOCATION_TEXT 256

/// `local_address` is the address of the interface to look for gateways on, as text; `location`, of MARTLET_UPNP_LOCATION_TEXT
/// characters, where the gateway was found before, or nothing, and then where it was found now. `timeout_ms` is for each of the
/// kinds of device that are looked for, and waited in full where one is found. Without mappings it asks for the address alone.
int martlet_upnp_map(
    const char *local_address, char *location, struct martlet_port_mapping *mappings, size_t count, int timeout_ms,
    char *external_address, size_t external_address_size, char *message);

/// Has the gateway let in what comes to ports of `client`, an own IPv6 address, by WANIPv6FirewallControl. `interface` is the one
/// that has that address; otherwise as above. Mappings with a `pinhole` renew it. Without mappings it asks whether that is allowed.
int martlet_upnp_open_pinholes(
    const char *interface, const char *client, char *location, struct martlet_port_mapping *mappings, size_t count,
    int timeout_ms, char *message);

/// The address that packets to `address` leave from; both in network byte order. Returns 0 when there is one.
int martlet_source_address(uint32_t address, uint32_t *source);

#define MARTLET_TRACE_LIMIT 8

/// The routers that a packet to `address` passes first, up to `count` of them; 0 for one that does not say so. Each is found by a
/// packet that may go no farther. Blocks. Addresses are in network byte order.
void martlet_trace(
    uint32_t address, uint16_t port, const void *packet, size_t size, int timeout_ms, uint32_t *hops, size_t count);

#endif
