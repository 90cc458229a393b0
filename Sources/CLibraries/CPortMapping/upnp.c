#include <miniupnpc/miniupnpc.h>
#include <miniupnpc/upnpcommands.h>
#include <miniupnpc/upnperrors.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "CPortMapping.h"

enum {
    only_permanent_leases = 725,
    conflict = 718,
    no_such_entry = 714,
    no_such_pinhole = 704,
};

/// Says in words what came of a mapping that failed.
static void explain(struct martlet_port_mapping *mapping)
{
    if (mapping->error == 0) return;
    const char *text = strupnperror(mapping->error);
    snprintf(
        mapping->message, sizeof mapping->message, "the gateway refuses by UPnP: %s (%d)", text ? text : "error",
        mapping->error);
}

/// Adds a mapping; where the port is taken, at other ports; without a lifetime where the gateway knows only those.
static int add(
    struct UPNPUrls *urls, struct IGDdatas *data, const char *host, struct martlet_port_mapping *mapping)
{
    const char *protocol = mapping->is_tcp ? "TCP" : "UDP";
    char internal[6], external[6], lifetime[11];
    snprintf(internal, sizeof internal, "%u", mapping->internal_port);
    int code = 0;
    for (int attempt = 0; attempt < 6; attempt++) {
        snprintf(external, sizeof external, "%u", mapping->external_port);
        snprintf(lifetime, sizeof lifetime, "%u", mapping->lifetime);
        code = UPNP_AddPortMapping(
            urls->controlURL, data->first.servicetype, external, internal, host, "martlet", protocol, NULL, lifetime);
        if (code == only_permanent_leases && mapping->lifetime != 0) {
            mapping->lifetime = 0;
        } else if (code == conflict) {
            mapping->external_port = (uint16_t)(1024 + (mapping->external_port + 7919u) % 60000);
        } else {
            break;
        }
    }
    return code;
}

static int remove_mapping(struct UPNPUrls *urls, struct IGDdatas *data, struct martlet_port_mapping *mapping)
{
    char external[6];
    snprintf(external, sizeof external, "%u", mapping->external_port);
    int code = UPNP_DeletePortMapping(
        urls->controlURL, data->first.servicetype, external, mapping->is_tcp ? "TCP" : "UDP", NULL);
    return code == no_such_entry ? 0 : code;
}

/// Finds the gateway where it was before, or looks for it: at an interface given by its address, or for IPv6 by its name. Returns 0 and fills `urls`, which has to be freed, or says why not.
static int find(
    const char *interface, int is_ipv6, char *location, int timeout_ms, struct UPNPUrls *urls, struct IGDdatas *data, char *host,
    int host_size, char *message)
{
    if (location[0] && UPNP_GetIGDFromUrl(location, urls, data, host, host_size) == 1) return 0;
    location[0] = 0;
    int error = 0;
    struct UPNPDev *devices = upnpDiscover(timeout_ms, interface, NULL, UPNP_LOCAL_PORT_ANY, is_ipv6, 2, &error);
    if (!devices) {
        snprintf(message, MARTLET_PORT_MAPPING_TEXT, "no gateway answers UPnP");
        return -1;
    }
#if MINIUPNPC_API_VERSION >= 18
    char external[64];
    int found = UPNP_GetValidIGD(devices, urls, data, host, host_size, external, sizeof external);
#else
    int found = UPNP_GetValidIGD(devices, urls, data, host, host_size);
#endif
    freeUPNPDevlist(devices);
    // Since version 18 of the library, 2 is a connected gateway whose own address is private.
    if (found < 1 || found > 2) {
        snprintf(
            message, MARTLET_PORT_MAPPING_TEXT,
            found > 2 ? "the gateway found by UPnP has no connection to the internet" : "no gateway answers UPnP");
        if (found != 0) FreeUPNPUrls(urls);
        return -1;
    }
    if (urls->rootdescURL && strlen(urls->rootdescURL) < MARTLET_UPNP_LOCATION_TEXT)
        snprintf(location, MARTLET_UPNP_LOCATION_TEXT, "%s", urls->rootdescURL);
    return 0;
}

int martlet_upnp_map(
    const char *local_address, char *location, struct martlet_port_mapping *mappings, size_t count, int timeout_ms,
    char *external_address, size_t external_address_size, char *message)
{
    struct UPNPUrls urls;
    struct IGDdatas data;
    char host[64] = "", external[64] = "";
    int code = find(local_address, 0, location, timeout_ms, &urls, &data, host, sizeof host, message);
    if (code != 0) return code;
    if (UPNP_GetExternalIPAddress(urls.controlURL, data.first.servicetype, external) != 0) external[0] = 0;
    snprintf(external_address, external_address_size, "%s", external);
    for (size_t index = 0; index < count; index++) {
        struct martlet_port_mapping *mapping = &mappings[index];
        mapping->error =
            mapping->lifetime == 0 ? remove_mapping(&urls, &data, mapping) : add(&urls, &data, host, mapping);
        explain(mapping);
    }
    FreeUPNPUrls(&urls);
    return 0;
}

/// Renews a pinhole, or makes one.
static int open_pinhole(
    struct UPNPUrls *urls, struct IGDdatas *data, const char *client, struct martlet_port_mapping *mapping)
{
    // As text, in buffers of the size that the library writes to.
    char port[6], lifetime[11], name[8] = "";
    snprintf(port, sizeof port, "%u", mapping->internal_port);
    snprintf(lifetime, sizeof lifetime, "%u", mapping->lifetime);
    if (mapping->pinhole) {
        snprintf(name, sizeof name, "%u", mapping->pinhole);
        int code = UPNP_UpdatePinhole(urls->controlURL_6FC, data->IPv6FC.servicetype, name, lifetime);
        if (code != no_such_pinhole) return code;
        mapping->pinhole = 0;
    }
    // From any host and port; "empty" is how the library wants to be told of any host.
    int code = UPNP_AddPinhole(
        urls->controlURL_6FC, data->IPv6FC.servicetype, "empty", "0", client, port, mapping->is_tcp ? "6" : "17", lifetime,
        name);
    if (code == 0) mapping->pinhole = (uint16_t)strtoul(name, NULL, 10);
    return code;
}

static int close_pinhole(struct UPNPUrls *urls, struct IGDdatas *data, struct martlet_port_mapping *mapping)
{
    if (!mapping->pinhole) return 0;
    char name[8];
    snprintf(name, sizeof name, "%u", mapping->pinhole);
    mapping->pinhole = 0;
    int code = UPNP_DeletePinhole(urls->controlURL_6FC, data->IPv6FC.servicetype, name);
    return code == no_such_pinhole ? 0 : code;
}

int martlet_upnp_open_pinholes(
    const char *interface, const char *client, char *location, struct martlet_port_mapping *mappings, size_t count,
    int timeout_ms, char *message)
{
    struct UPNPUrls urls;
    struct IGDdatas data;
    char host[64] = "";
    int code = find(interface, 1, location, timeout_ms, &urls, &data, host, sizeof host, message);
    if (code != 0) return code;
    int is_filtering = 0, is_allowed = 0;
    if (!data.IPv6FC.servicetype[0] || !urls.controlURL_6FC
        || UPNP_GetFirewallStatus(urls.controlURL_6FC, data.IPv6FC.servicetype, &is_filtering, &is_allowed) != 0) {
        snprintf(message, MARTLET_PORT_MAPPING_TEXT, "the gateway opens no pinholes by UPnP");
        code = -1;
    } else if (!is_filtering) {
        snprintf(message, MARTLET_PORT_MAPPING_TEXT, "the gateway says by UPnP that it keeps out nothing of IPv6");
        code = -1;
    } else if (!is_allowed) {
        snprintf(message, MARTLET_PORT_MAPPING_TEXT, "the gateway is set up to open no pinholes by UPnP");
        code = -1;
    }
    for (size_t index = 0; code == 0 && index < count; index++) {
        struct martlet_port_mapping *mapping = &mappings[index];
        mapping->error = mapping->lifetime == 0 ? close_pinhole(&urls, &data, mapping)
                                                : open_pinhole(&urls, &data, client, mapping);
        mapping->external_port = mapping->internal_port;
        explain(mapping);
    }
    FreeUPNPUrls(&urls);
    return code;
}
