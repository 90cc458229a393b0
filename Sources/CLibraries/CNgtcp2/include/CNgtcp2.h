#pragma once
// All that Martlet uses of ngtcp2 and GnuTLS, in one C target: both have functions that are macros, and structures that grow
// from version to version. What is here does no I/O and reads no clock; GnuTLS alone takes randomness from the system.
#include <stddef.h>
#include <stdint.h>

/// An IP address with its port. IPv4 lies in the low 32 bits of `low`; all in the machine's byte order.
typedef struct {
    uint64_t high, low;
    uint32_t scope;
    uint16_t port;
    uint8_t is_ip6;
} mq_address;

typedef struct {
    const uint8_t *base;
    size_t length;
} mq_piece;

/// What became of stream data that was offered.
typedef enum { MQ_TAKEN = 0, MQ_STREAM_FULL = 1, MQ_CONNECTION_FULL = 2, MQ_STREAM_ENDED = 3 } mq_taken;

/// What a connection tells and asks its owner, during the calls below. `context` is the owner's.
typedef struct {
    void (*random)(void *context, uint8_t *bytes, size_t count);
    /// Makes up a connection id, which cannot be guessed.
    void (*make_id)(void *context, uint8_t *id, size_t length);
    void (*id_added)(void *context, const uint8_t *id, size_t length);
    void (*id_removed)(void *context, const uint8_t *id, size_t length);
    /// Judges the peer's certificate; `count` is how many the peer sent. Returns 0 to accept it.
    int (*verify)(void *context, const uint8_t *certificate, size_t length, size_t count);
    /// Returns 0 to go on.
    int (*handshake_completed)(void *context);
    void (*stream_opened)(void *context, int64_t stream);
    void (*stream_data)(void *context, int64_t stream, const uint8_t *bytes, size_t count, int is_end);
    void (*stream_acked)(void *context, int64_t stream, uint64_t end);
    void (*stream_reset)(void *context, int64_t stream);
    void (*stream_closed)(void *context, int64_t stream);
    void (*stream_has_room)(void *context, int64_t stream);
    /// The peer is reached at another address from now on.
    void (*path_changed)(void *context, const mq_address *remote);
    /// The next data to send: up to `limit` pieces, which must stay where they are until acknowledged. Returns the stream, or
    /// -1 when there is nothing. `is_end` says that the stream ends with them.
    int64_t (*next_data)(void *context, mq_piece *pieces, size_t limit, size_t *count, int *is_end);
    void (*data_taken)(void *context, int64_t stream, size_t count, int is_end, mq_taken how);
} mq_handlers;

// MARK: Certificates

typedef struct mq_credentials mq_credentials;
typedef struct mq_key mq_key;

/// A new P-256 key. Null when GnuTLS fails.
mq_key *mq_key_create(void);
void mq_key_free(mq_key *key);
/// Its SubjectPublicKeyInfo; returns the size, or 0 when it does not fit.
size_t mq_key_public(const mq_key *key, uint8_t *bytes, size_t capacity);

/// Signs a certificate with `extension` in it and makes it ready for connections. Times are seconds since 1970. Null when
/// GnuTLS fails.
mq_credentials *mq_credentials_create(const mq_key *key, const uint8_t *extension, size_t length, int is_critical,
    const uint8_t serial[8], int64_t from, int64_t until);
void mq_credentials_free(mq_credentials *credentials);
size_t mq_credentials_certificate(const mq_credentials *credentials, uint8_t *bytes, size_t capacity);

/// Whether `certificate`, whose signed part is `signed_part`, is signed with its own key; and how long it is valid.
int mq_certificate_is_self_signed(const uint8_t *certificate, size_t length, const uint8_t *signed_part,
    size_t signed_length, int64_t *from, int64_t *until);

// MARK: Packets without a connection

#define MQ_ID_LENGTH 16
#define MQ_MAXIMUM_ID_LENGTH 20
#define MQ_TOKEN_LENGTH 16
/// The longest datagram that is sent.
#define MQ_MAXIMUM_DATAGRAM 9000
/// How many bytes the kernel takes at once, and how much room `mq_write` wants so that it can fill that with the longest datagrams.
#define MQ_MAXIMUM_BATCH 65000
#define MQ_BATCH_ROOM (MQ_MAXIMUM_BATCH + MQ_MAXIMUM_DATAGRAM)

typedef struct {
    uint32_t version;
    const uint8_t *destination, *source;
    size_t destination_length, source_length;
    int is_long;
    /// A long header of a version that is not ours: version negotiation is due.
    int is_unknown_version;
} mq_header;

/// Returns 0, or a negative number when it is no QUIC packet.
int mq_decode(const uint8_t *packet, size_t length, mq_header *header);

typedef struct {
    uint32_t version;
    uint8_t destination[MQ_MAXIMUM_ID_LENGTH], source[MQ_MAXIMUM_ID_LENGTH];
    size_t destination_length, source_length;
    const uint8_t *token;
    size_t token_length;
} mq_initial;

/// Returns 0 for a packet that may begin a connection.
int mq_accept(const uint8_t *packet, size_t length, mq_initial *initial);

size_t mq_write_version_negotiation(uint8_t *bytes, size_t capacity, uint8_t random, const mq_header *header);
size_t mq_write_stateless_reset(uint8_t *bytes, size_t capacity, const uint8_t secret[32], const uint8_t *id,
    size_t id_length, const uint8_t *random, size_t random_length);
/// `id` is the connection id that the client is to use from then on, of MQ_ID_LENGTH bytes.
size_t mq_write_retry(uint8_t *bytes, size_t capacity, const mq_initial *initial, const uint8_t *id,
    const uint8_t secret[32], const mq_address *remote, uint64_t now);
/// Whether the token is one of a Retry of ours to this address, not too old; `original` is where the client first sent to.
int mq_check_retry(const mq_initial *initial, const uint8_t secret[32], const mq_address *remote, uint64_t timeout,
    uint64_t now, uint8_t original[MQ_MAXIMUM_ID_LENGTH], size_t *original_length);

// MARK: Connections

typedef struct mq_connection mq_connection;

/// All times in nanoseconds.
typedef struct {
    mq_address local, remote;
    uint64_t now;
    /// Zero for none.
    uint64_t keep_alive;
    uint64_t idle_timeout, handshake_timeout, initial_rtt;
    uint64_t stream_window, connection_window, maximum_streams;
    size_t maximum_datagram;
    int use_bbr;
    uint8_t reset_secret[32];
    uint8_t id[MQ_ID_LENGTH];
} mq_parameters;

/// Null when the library fails. Handlers are called from now on.
mq_connection *mq_client_create(const mq_credentials *credentials, const mq_parameters *parameters,
    const uint8_t *first_destination, size_t first_length, const mq_handlers *handlers, void *context);
/// `original` is what a Retry's token says, or null.
mq_connection *mq_server_create(const mq_credentials *credentials, const mq_parameters *parameters,
    const mq_initial *initial, const uint8_t *original, size_t original_length, const mq_handlers *handlers, void *context);
void mq_free(mq_connection *connection);

/// Returns 0, or one of the numbers below.
int mq_read(mq_connection *connection, const mq_address *remote, const uint8_t *packet, size_t length, uint64_t now);
/// Writes datagrams of one size, the last of which may be shorter, for one address. Returns how many bytes, 0 for nothing to
/// send now, or one of the numbers below.
ptrdiff_t mq_write(mq_connection *connection, uint8_t *bytes, size_t capacity, uint64_t now, size_t *segment,
    mq_address *remote);
int mq_handle_expiry(mq_connection *connection, uint64_t now);
/// How long the library waits for an answer before it sends again, in nanoseconds (RFC 9002, 6.2.1).
uint64_t mq_probe_timeout(mq_connection *connection);
/// UINT64_MAX for never.
uint64_t mq_expiry(mq_connection *connection);
/// Sends a PING whenever nothing was sent or received for `interval` nanoseconds; UINT64_MAX for never.
void mq_set_keep_alive(mq_connection *connection, uint64_t interval);

/// Writes the packet that ends the connection, for the error with which a call failed or, with 0, for `code` of the application.
size_t mq_write_close(mq_connection *connection, uint8_t *bytes, size_t capacity, int error, uint64_t code, uint64_t now);
/// The error code that mq_write_close sends for `error`.
uint64_t mq_error_code(mq_connection *connection, int error);

extern const int mq_error_draining, mq_error_crypto, mq_error_idle, mq_error_handshake_timeout, mq_error_drop,
    mq_error_closing;
const char *mq_error_text(int error);

/// With what the peer ended the connection.
typedef enum { MQ_END_TRANSPORT = 0, MQ_END_APPLICATION = 1, MQ_END_OTHER = 2 } mq_end;
mq_end mq_peer_end(mq_connection *connection, uint64_t *code);

/// Returns the stream, or -1 when the peer allows no more at the moment, or -2 on any other failure.
int64_t mq_open_stream(mq_connection *connection);
void mq_reset_stream(mq_connection *connection, int64_t stream, uint64_t code);
void mq_stop_reading(mq_connection *connection, int64_t stream);
void mq_extend_stream(mq_connection *connection, int64_t stream, uint64_t count);
void mq_extend_connection(mq_connection *connection, uint64_t count);
void mq_extend_streams(mq_connection *connection, size_t count);
int mq_has_connection_room(mq_connection *connection);
void mq_round_trip(mq_connection *connection, uint64_t *latest, uint64_t *smoothed);
