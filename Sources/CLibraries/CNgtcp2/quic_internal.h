#pragma once
#include "CNgtcp2.h"
#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <netinet/in.h>
#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>
#include <ngtcp2/ngtcp2_crypto_gnutls.h>
#include <sys/socket.h>

#if NGTCP2_VERSION_NUM < 0x010b00
#error "ngtcp2 before 1.11 can be crashed by any peer: run Scripts/setup.sh, which installs a newer one"
#endif

struct mq_credentials {
    gnutls_certificate_credentials_t credentials;
    gnutls_datum_t certificate;
};

struct mq_connection {
    ngtcp2_conn *connection;
    gnutls_session_t session;
    ngtcp2_crypto_conn_ref reference;
    const mq_handlers *handlers;
    void *context;
    uint8_t reset_secret[32];
    struct sockaddr_storage local;
    socklen_t local_length;
    // The round trip was too short for pacing once.
    int is_unpaced;
    // The peer said that it knows nothing of the connection any more.
    int was_reset;
    // A datagram that was written but does not fit what is being sent: longer than the others, or for another address.
    size_t carried_length;
    mq_address carried_remote;
    uint8_t carried[MQ_MAXIMUM_DATAGRAM];
};

socklen_t mq_put_address(struct sockaddr_storage *storage, const mq_address *address);
void mq_get_address(mq_address *address, const struct sockaddr *stored);
