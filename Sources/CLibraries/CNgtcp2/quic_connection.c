#include "quic_internal.h"
#include <stdlib.h>
#include <string.h>

const int mq_error_draining = NGTCP2_ERR_DRAINING;
const int mq_error_closing = NGTCP2_ERR_CLOSING;
const int mq_error_crypto = NGTCP2_ERR_CRYPTO;
const int mq_error_idle = NGTCP2_ERR_IDLE_CLOSE;
const int mq_error_handshake_timeout = NGTCP2_ERR_HANDSHAKE_TIMEOUT;
const int mq_error_drop = NGTCP2_ERR_DROP_CONN;

const char *mq_error_text(int error) { return ngtcp2_strerror(error); }

// MARK: Callbacks

static ngtcp2_conn *get_conn(ngtcp2_crypto_conn_ref *reference) {
    return ((mq_connection *)reference->user_data)->connection;
}

static void on_random(uint8_t *bytes, size_t count, const ngtcp2_rand_ctx *context) {
    mq_connection *c = context->native_handle;
    c->handlers->random(c->context, bytes, count);
}

static int on_new_id(ngtcp2_conn *conn, ngtcp2_cid *cid, uint8_t *token, size_t length, void *user) {
    mq_connection *c = user;
    (void)conn;
    c->handlers->make_id(c->context, cid->data, length);
    cid->datalen = length;
    if (ngtcp2_crypto_generate_stateless_reset_token(token, c->reset_secret, sizeof c->reset_secret, cid) != 0) {
        return NGTCP2_ERR_CALLBACK_FAILURE;
    }
    c->handlers->id_added(c->context, cid->data, cid->datalen);
    return 0;
}

static int on_remove_id(ngtcp2_conn *conn, const ngtcp2_cid *cid, void *user) {
    mq_connection *c = user;
    (void)conn;
    c->handlers->id_removed(c->context, cid->data, cid->datalen);
    return 0;
}

static int on_challenge(ngtcp2_conn *conn, uint8_t *data, void *user) {
    mq_connection *c = user;
    (void)conn;
    c->handlers->random(c->context, data, NGTCP2_PATH_CHALLENGE_DATALEN);
    return 0;
}

static int on_completed(ngtcp2_conn *conn, void *user) {
    mq_connection *c = user;
    (void)conn;
    return c->handlers->handshake_completed(c->context) == 0 ? 0 : NGTCP2_ERR_CALLBACK_FAILURE;
}

static int on_stream_open(ngtcp2_conn *conn, int64_t stream, void *user) {
    mq_connection *c = user;
    (void)conn;
    c->handlers->stream_opened(c->context, stream);
    return 0;
}

static int on_stream_data(ngtcp2_conn *conn, uint32_t flags, int64_t stream, uint64_t offset, const uint8_t *data,
    size_t count, void *user, void *stream_user) {
    mq_connection *c = user;
    (void)conn, (void)offset, (void)stream_user;
    c->handlers->stream_data(c->context, stream, data, count, (flags & NGTCP2_STREAM_DATA_FLAG_FIN) != 0);
    return 0;
}

static int on_acked(ngtcp2_conn *conn, int64_t stream, uint64_t offset, uint64_t count, void *user, void *stream_user) {
    mq_connection *c = user;
    (void)conn, (void)stream_user;
    c->handlers->stream_acked(c->context, stream, offset + count);
    return 0;
}

static int on_stream_reset(ngtcp2_conn *conn, int64_t stream, uint64_t final_size, uint64_t code, void *user,
    void *stream_user) {
    mq_connection *c = user;
    (void)conn, (void)final_size, (void)code, (void)stream_user;
    c->handlers->stream_reset(c->context, stream);
    return 0;
}

static int on_stream_close(ngtcp2_conn *conn, uint32_t flags, int64_t stream, uint64_t code, void *user,
    void *stream_user) {
    mq_connection *c = user;
    (void)conn, (void)flags, (void)code, (void)stream_user;
    c->handlers->stream_closed(c->context, stream);
    return 0;
}

static int on_stream_room(ngtcp2_conn *conn, int64_t stream, uint64_t limit, void *user, void *stream_user) {
    mq_connection *c = user;
    (void)conn, (void)limit, (void)stream_user;
    c->handlers->stream_has_room(c->context, stream);
    return 0;
}

static int on_path(ngtcp2_conn *conn, uint32_t flags, const ngtcp2_path *path, const ngtcp2_path *old,
    ngtcp2_path_validation_result result, void *user) {
    mq_connection *c = user;
    (void)conn, (void)flags, (void)old;
    if (result != NGTCP2_PATH_VALIDATION_RESULT_SUCCESS) return 0;
    mq_address remote;
    mq_get_address(&remote, path->remote.addr);
    c->handlers->path_changed(c->context, &remote);
    return 0;
}

static int on_stateless_reset(ngtcp2_conn *conn, const ngtcp2_pkt_stateless_reset *reset, void *user) {
    mq_connection *c = user;
    (void)conn, (void)reset;
    c->was_reset = 1;
    return 0;
}

static void fill_callbacks(ngtcp2_callbacks *callbacks, int is_server) {
    memset(callbacks, 0, sizeof *callbacks);
    if (is_server) {
        callbacks->recv_client_initial = ngtcp2_crypto_recv_client_initial_cb;
    } else {
        callbacks->client_initial = ngtcp2_crypto_client_initial_cb;
        callbacks->recv_retry = ngtcp2_crypto_recv_retry_cb;
    }
    callbacks->recv_crypto_data = ngtcp2_crypto_recv_crypto_data_cb;
    callbacks->encrypt = ngtcp2_crypto_encrypt_cb;
    callbacks->decrypt = ngtcp2_crypto_decrypt_cb;
    callbacks->hp_mask = ngtcp2_crypto_hp_mask_cb;
    callbacks->update_key = ngtcp2_crypto_update_key_cb;
    callbacks->delete_crypto_aead_ctx = ngtcp2_crypto_delete_crypto_aead_ctx_cb;
    callbacks->delete_crypto_cipher_ctx = ngtcp2_crypto_delete_crypto_cipher_ctx_cb;
    callbacks->version_negotiation = ngtcp2_crypto_version_negotiation_cb;
    callbacks->get_path_challenge_data = on_challenge;
    callbacks->rand = on_random;
    callbacks->get_new_connection_id = on_new_id;
    callbacks->remove_connection_id = on_remove_id;
    callbacks->handshake_completed = on_completed;
    callbacks->stream_open = on_stream_open;
    callbacks->recv_stream_data = on_stream_data;
    callbacks->acked_stream_data_offset = on_acked;
    callbacks->stream_reset = on_stream_reset;
    callbacks->stream_close = on_stream_close;
    callbacks->extend_max_stream_data = on_stream_room;
    callbacks->path_validation = on_path;
    callbacks->recv_stateless_reset = on_stateless_reset;
}

// MARK: Making

// AES first where the processor knows it: GnuTLS's ChaCha20 is five times slower there. The server's order counts.
#define CIPHERS_AES "+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305:"
#define CIPHERS_CHACHA "+CHACHA20-POLY1305:+AES-128-GCM:+AES-256-GCM:"
#define PRIORITIES(ciphers)                                                                                             \
    "NONE:+VERS-TLS1.3:" ciphers "+AEAD:+ECDHE-ECDSA:+ECDHE-RSA:+GROUP-X25519:+GROUP-SECP256R1:+GROUP-SECP384R1:"        \
    "+SIGN-EDDSA-ED25519:+SIGN-ECDSA-SECP256R1-SHA256:+SIGN-ECDSA-SECP384R1-SHA384:+SIGN-RSA-PSS-RSAE-SHA256:"          \
    "+SIGN-RSA-SHA256:+SIGN-ECDSA-SHA256:+CTYPE-X509:%DISABLE_TLS13_COMPAT_MODE:%SERVER_PRECEDENCE"

static const char *priorities(void) {
#if defined(__x86_64__)
    return __builtin_cpu_supports("aes") ? PRIORITIES(CIPHERS_AES) : PRIORITIES(CIPHERS_CHACHA);
#else
    return PRIORITIES(CIPHERS_AES);
#endif
}

static int open_session(mq_connection *c, const mq_credentials *credentials, int is_server) {
    // No tickets and no early data: the identity hangs on the certificate, which a resumed session does not show.
    unsigned flags = is_server ? GNUTLS_SERVER | GNUTLS_NO_AUTO_SEND_TICKET : GNUTLS_CLIENT | GNUTLS_FORCE_CLIENT_CERT;
    const gnutls_datum_t protocol = {(unsigned char *)"libp2p", 6};
    if (gnutls_init(&c->session, flags | GNUTLS_NO_TICKETS | GNUTLS_NO_END_OF_EARLY_DATA) != 0) return -1;
    int code = gnutls_priority_set_direct(c->session, priorities(), NULL);
    if (code == 0) {
        code = is_server ? ngtcp2_crypto_gnutls_configure_server_session(c->session)
                         : ngtcp2_crypto_gnutls_configure_client_session(c->session);
    }
    if (code == 0) code = gnutls_credentials_set(c->session, GNUTLS_CRD_CERTIFICATE, credentials->credentials);
    if (code == 0) code = gnutls_alpn_set_protocols(c->session, &protocol, 1, GNUTLS_ALPN_MANDATORY);
    if (is_server) gnutls_certificate_server_set_request(c->session, GNUTLS_CERT_REQUIRE);
    c->reference.get_conn = get_conn;
    c->reference.user_data = c;
    gnutls_session_set_ptr(c->session, &c->reference);
    return code;
}

/// Sizes to try on the way to the longest datagram that the path carries (RFC 8899), less the headers of IPv6 and UDP. Ethernet's
/// first, since one that the path does not carry takes five timeouts; then jumbo frames, which loopback carries too, if that was
/// carried; else what common tunnels leave of Ethernet's.
static const uint16_t path_sizes[] = {1500 - 48, 9000 - 48, 1492 - 48, 1420 - 48, 1280 - 48};

static void fill_settings(ngtcp2_settings *settings, const mq_parameters *p, mq_connection *c) {
    ngtcp2_settings_default(settings);
    settings->cc_algo = p->use_bbr ? NGTCP2_CC_ALGO_BBR : NGTCP2_CC_ALGO_CUBIC;
    settings->initial_ts = p->now;
    settings->initial_rtt = p->initial_rtt;
    settings->handshake_timeout = p->handshake_timeout;
    settings->max_tx_udp_payload_size = p->maximum_datagram < MQ_MAXIMUM_DATAGRAM ? p->maximum_datagram
                                                                                   : MQ_MAXIMUM_DATAGRAM;
    settings->pmtud_probes = path_sizes;
    settings->pmtud_probeslen = sizeof path_sizes / sizeof path_sizes[0];
    settings->rand_ctx.native_handle = c;
}

static void fill_params(ngtcp2_transport_params *params, const mq_parameters *p) {
    ngtcp2_transport_params_default(params);
    params->initial_max_stream_data_bidi_local = p->stream_window;
    params->initial_max_stream_data_bidi_remote = p->stream_window;
    params->initial_max_data = p->connection_window;
    params->initial_max_streams_bidi = p->maximum_streams;
    params->initial_max_streams_uni = 0;
    params->max_idle_timeout = p->idle_timeout;
    params->active_connection_id_limit = 8;
    // The bit tells QUIC from what else may arrive at the socket, such as the packets of a hole punch.
    params->grease_quic_bit = 0;
}

static mq_connection *make(const mq_parameters *p, const mq_handlers *handlers, void *context) {
    mq_connection *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->handlers = handlers;
    c->context = context;
    c->local_length = mq_put_address(&c->local, &p->local);
    memcpy(c->reset_secret, p->reset_secret, sizeof c->reset_secret);
    return c;
}

static mq_connection *start(mq_connection *c, const mq_credentials *credentials, const mq_parameters *p, int code,
    int is_server) {
    if (code != 0 || open_session(c, credentials, is_server) != 0) {
        mq_free(c);
        return NULL;
    }
    ngtcp2_conn_set_tls_native_handle(c->connection, c->session);
    if (p->keep_alive) ngtcp2_conn_set_keep_alive_timeout(c->connection, p->keep_alive);
    return c;
}

static ngtcp2_path path_of(mq_connection *c, struct sockaddr_storage *remote, socklen_t length) {
    ngtcp2_path path = {
        {(ngtcp2_sockaddr *)&c->local, c->local_length}, {(ngtcp2_sockaddr *)remote, length}, NULL};
    return path;
}

mq_connection *mq_client_create(const mq_credentials *credentials, const mq_parameters *p, const uint8_t *first,
    size_t first_length, const mq_handlers *handlers, void *context) {
    mq_connection *c = make(p, handlers, context);
    if (!c) return NULL;
    struct sockaddr_storage remote;
    ngtcp2_path path = path_of(c, &remote, mq_put_address(&remote, &p->remote));
    ngtcp2_callbacks callbacks;
    ngtcp2_settings settings;
    ngtcp2_transport_params params;
    ngtcp2_cid destination, source;
    fill_callbacks(&callbacks, 0);
    fill_settings(&settings, p, c);
    fill_params(&params, p);
    ngtcp2_cid_init(&destination, first, first_length);
    ngtcp2_cid_init(&source, p->id, MQ_ID_LENGTH);
    int code = ngtcp2_conn_client_new(&c->connection, &destination, &source, &path, NGTCP2_PROTO_VER_V1, &callbacks,
        &settings, &params, NULL, c);
    return start(c, credentials, p, code, 0);
}

mq_connection *mq_server_create(const mq_credentials *credentials, const mq_parameters *p, const mq_initial *initial,
    const uint8_t *original, size_t original_length, const mq_handlers *handlers, void *context) {
    mq_connection *c = make(p, handlers, context);
    if (!c) return NULL;
    struct sockaddr_storage remote;
    ngtcp2_path path = path_of(c, &remote, mq_put_address(&remote, &p->remote));
    ngtcp2_callbacks callbacks;
    ngtcp2_settings settings;
    ngtcp2_transport_params params;
    ngtcp2_cid destination, source, token_id;
    fill_callbacks(&callbacks, 1);
    fill_settings(&settings, p, c);
    fill_params(&params, p);
    // What the client calls itself is where this side sends to.
    ngtcp2_cid_init(&destination, initial->source, initial->source_length);
    ngtcp2_cid_init(&source, p->id, MQ_ID_LENGTH);
    if (original) {
        ngtcp2_cid_init(&params.original_dcid, original, original_length);
        ngtcp2_cid_init(&params.retry_scid, initial->destination, initial->destination_length);
        params.retry_scid_present = 1;
        settings.token = initial->token;
        settings.tokenlen = initial->token_length;
        settings.token_type = NGTCP2_TOKEN_TYPE_RETRY;
    } else {
        ngtcp2_cid_init(&params.original_dcid, initial->destination, initial->destination_length);
    }
    params.original_dcid_present = 1;
    ngtcp2_cid_init(&token_id, p->id, MQ_ID_LENGTH);
    int code = ngtcp2_crypto_generate_stateless_reset_token(
        params.stateless_reset_token, c->reset_secret, sizeof c->reset_secret, &token_id);
    params.stateless_reset_token_present = 1;
    if (code == 0) {
        code = ngtcp2_conn_server_new(
            &c->connection, &destination, &source, &path, initial->version, &callbacks, &settings, &params, NULL, c);
    }
    return start(c, credentials, p, code, 1);
}

void mq_free(mq_connection *c) {
    if (!c) return;
    if (c->connection) ngtcp2_conn_del(c->connection);
    if (c->session) gnutls_deinit(c->session);
    free(c);
}

// MARK: Packets

int mq_read(mq_connection *c, const mq_address *from, const uint8_t *packet, size_t length, uint64_t now) {
    struct sockaddr_storage remote;
    ngtcp2_path path = path_of(c, &remote, mq_put_address(&remote, from));
    ngtcp2_pkt_info info = {0};
    return ngtcp2_conn_read_pkt(c->connection, &path, &info, packet, length, now);
}

static size_t take_carried(mq_connection *c, uint8_t *bytes, size_t capacity, mq_address *remote) {
    size_t length = c->carried_length;
    if (length > capacity) return 0;
    memcpy(bytes, c->carried, length);
    *remote = c->carried_remote;
    c->carried_length = 0;
    return length;
}

#define PIECES 16

/// One datagram, with data of as many streams as fit.
static ngtcp2_ssize write_one(mq_connection *c, ngtcp2_path *path, uint8_t *bytes, size_t capacity, uint64_t now) {
    mq_piece pieces[PIECES];
    ngtcp2_vec vectors[PIECES];
    ngtcp2_pkt_info info;
    for (;;) {
        size_t count = 0, offered = 0;
        int is_end = 0;
        int64_t stream = c->handlers->next_data(c->context, pieces, PIECES, &count, &is_end);
        if (stream < 0) count = 0;
        for (size_t i = 0; i < count; i++) {
            vectors[i].base = (uint8_t *)pieces[i].base;
            vectors[i].len = pieces[i].length;
            offered += pieces[i].length;
        }
        uint32_t flags = stream < 0 ? 0 : NGTCP2_WRITE_STREAM_FLAG_MORE;
        if (is_end && stream >= 0) flags |= NGTCP2_WRITE_STREAM_FLAG_FIN;
        ngtcp2_ssize taken = -1;
        ngtcp2_ssize n = ngtcp2_conn_writev_stream(
            c->connection, path, &info, bytes, capacity, &taken, flags, stream, vectors, count, now);
        if (stream >= 0 && taken >= 0) {
            int ended = is_end && (size_t)taken == offered;
            c->handlers->data_taken(c->context, stream, (size_t)taken, ended, MQ_TAKEN);
        }
        switch (n) {
        case NGTCP2_ERR_WRITE_MORE: continue;
        case NGTCP2_ERR_STREAM_DATA_BLOCKED: {
            int is_full = ngtcp2_conn_get_max_data_left(c->connection) == 0;
            c->handlers->data_taken(c->context, stream, 0, 0, is_full ? MQ_CONNECTION_FULL : MQ_STREAM_FULL);
            continue;
        }
        case NGTCP2_ERR_STREAM_SHUT_WR:
        case NGTCP2_ERR_STREAM_NOT_FOUND:
            c->handlers->data_taken(c->context, stream, 0, 0, MQ_STREAM_ENDED);
            continue;
        default: return n;
        }
    }
}

/// Pacing needs timers finer than the round trip: on a short one it would only make the sender wait, and during the handshake
/// it would wait by a round trip that was made up.
///
/// A connection that was not paced never is: the library counts what was sent since it was last told the time of a packet, and
/// would first wait as long as all of that takes, which may be seconds. So it is the shortest round trip that decides, not one
/// that rises and falls with the load.
static int is_paced(mq_connection *c) {
    if (c->is_unpaced || !ngtcp2_conn_get_handshake_completed(c->connection)) return 0;
    ngtcp2_conn_info info;
    ngtcp2_conn_get_conn_info(c->connection, &info);
    if (info.min_rtt <= 4 * NGTCP2_MILLISECONDS) c->is_unpaced = 1;
    return !c->is_unpaced;
}

ptrdiff_t mq_write(mq_connection *c, uint8_t *bytes, size_t capacity, uint64_t now, size_t *segment, mq_address *remote) {
    if (c->carried_length) {
        *segment = take_carried(c, bytes, capacity, remote);
        return (ptrdiff_t)*segment;
    }
    const size_t largest = ngtcp2_conn_get_max_tx_udp_payload_size(c->connection);
    size_t quantum = ngtcp2_conn_get_send_quantum(c->connection);
    size_t total = 0;
    ngtcp2_path_storage path, first;
    if (quantum > MQ_MAXIMUM_BATCH) quantum = MQ_MAXIMUM_BATCH;
    *segment = 0;
    ngtcp2_path_storage_zero(&path);
    for (int count = 0; count < 64 && total + *segment <= quantum && capacity - total >= largest; count++) {
        ngtcp2_ssize n = write_one(c, &path.path, bytes + total, largest, now);
        if (n < 0) return n;
        if (n == 0) break;
        if (count == 0) {
            *segment = (size_t)n;
            ngtcp2_path_storage_zero(&first);
            ngtcp2_path_copy(&first.path, &path.path);
            mq_get_address(remote, path.path.remote.addr);
        } else if ((size_t)n > *segment || !ngtcp2_path_eq(&first.path, &path.path)) {
            memcpy(c->carried, bytes + total, (size_t)n);
            c->carried_length = (size_t)n;
            mq_get_address(&c->carried_remote, path.path.remote.addr);
            break;
        }
        total += (size_t)n;
        // A probe of the path goes alone: where it is too long for the first link, the kernel refuses the whole batch, and what
        // came with it would be missed only after a timeout.
        if ((size_t)n < *segment || (size_t)n > ngtcp2_conn_get_path_max_tx_udp_payload_size(c->connection)) break;
    }
    if (total && is_paced(c)) ngtcp2_conn_update_pkt_tx_time(c->connection, now);
    return (ptrdiff_t)total;
}

int mq_handle_expiry(mq_connection *c, uint64_t now) { return ngtcp2_conn_handle_expiry(c->connection, now); }

uint64_t mq_probe_timeout(mq_connection *c) { return ngtcp2_conn_get_pto(c->connection); }

void mq_set_keep_alive(mq_connection *c, uint64_t interval) {
    ngtcp2_conn_set_keep_alive_timeout(c->connection, interval);
}

uint64_t mq_expiry(mq_connection *c) { return ngtcp2_conn_get_expiry(c->connection); }

// MARK: Ending

static void fill_error(mq_connection *c, ngtcp2_ccerr *error, int code) {
    ngtcp2_ccerr_default(error);
    if (code == NGTCP2_ERR_CRYPTO) {
        ngtcp2_ccerr_set_tls_alert(error, ngtcp2_conn_get_tls_alert(c->connection), NULL, 0);
    } else {
        ngtcp2_ccerr_set_liberr(error, code, NULL, 0);
    }
}

uint64_t mq_error_code(mq_connection *c, int code) {
    ngtcp2_ccerr error;
    fill_error(c, &error, code);
    return error.error_code;
}

size_t mq_write_close(mq_connection *c, uint8_t *bytes, size_t capacity, int code, uint64_t application, uint64_t now) {
    ngtcp2_ccerr error;
    ngtcp2_path_storage path;
    ngtcp2_pkt_info info;
    if (code) {
        fill_error(c, &error, code);
    } else {
        ngtcp2_ccerr_default(&error);
        ngtcp2_ccerr_set_application_error(&error, application, NULL, 0);
    }
    ngtcp2_path_storage_zero(&path);
    ngtcp2_ssize n = ngtcp2_conn_write_connection_close(
        c->connection, &path.path, &info, bytes, capacity, &error, now);
    return n > 0 ? (size_t)n : 0;
}

mq_end mq_peer_end(mq_connection *c, uint64_t *code) {
    const ngtcp2_ccerr *error = ngtcp2_conn_get_ccerr(c->connection);
    *code = error->error_code;
    if (c->was_reset) return MQ_END_OTHER;
    switch (error->type) {
    case NGTCP2_CCERR_TYPE_TRANSPORT: return MQ_END_TRANSPORT;
    case NGTCP2_CCERR_TYPE_APPLICATION: return MQ_END_APPLICATION;
    default: return MQ_END_OTHER;
    }
}

// MARK: Streams

int64_t mq_open_stream(mq_connection *c) {
    int64_t stream = -1;
    int code = ngtcp2_conn_open_bidi_stream(c->connection, &stream, NULL);
    if (code == 0) return stream;
    return code == NGTCP2_ERR_STREAM_ID_BLOCKED ? -1 : -2;
}

void mq_reset_stream(mq_connection *c, int64_t stream, uint64_t code) {
    ngtcp2_conn_shutdown_stream(c->connection, 0, stream, code);
}

void mq_stop_reading(mq_connection *c, int64_t stream) { ngtcp2_conn_shutdown_stream_read(c->connection, 0, stream, 0); }

void mq_extend_stream(mq_connection *c, int64_t stream, uint64_t count) {
    ngtcp2_conn_extend_max_stream_offset(c->connection, stream, count);
}

void mq_extend_connection(mq_connection *c, uint64_t count) { ngtcp2_conn_extend_max_offset(c->connection, count); }

void mq_extend_streams(mq_connection *c, size_t count) { ngtcp2_conn_extend_max_streams_bidi(c->connection, count); }

int mq_has_connection_room(mq_connection *c) { return ngtcp2_conn_get_max_data_left(c->connection) > 0; }

void mq_round_trip(mq_connection *c, uint64_t *latest, uint64_t *smoothed) {
    ngtcp2_conn_info info;
    ngtcp2_conn_get_conn_info(c->connection, &info);
    *latest = info.latest_rtt;
    *smoothed = info.smoothed_rtt;
}
