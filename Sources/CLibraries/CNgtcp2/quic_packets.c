#include "quic_internal.h"
#include <string.h>

socklen_t mq_put_address(struct sockaddr_storage *storage, const mq_address *address) {
    memset(storage, 0, sizeof *storage);
    if (!address->is_ip6) {
        struct sockaddr_in *in = (struct sockaddr_in *)storage;
        in->sin_family = AF_INET;
        in->sin_port = htons(address->port);
        in->sin_addr.s_addr = htonl((uint32_t)address->low);
        return sizeof *in;
    }
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)storage;
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(address->port);
    in6->sin6_scope_id = address->scope;
    for (int i = 0; i < 8; i++) {
        in6->sin6_addr.s6_addr[i] = (uint8_t)(address->high >> (56 - 8 * i));
        in6->sin6_addr.s6_addr[8 + i] = (uint8_t)(address->low >> (56 - 8 * i));
    }
    return sizeof *in6;
}

void mq_get_address(mq_address *address, const struct sockaddr *stored) {
    memset(address, 0, sizeof *address);
    if (stored->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)stored;
        address->port = ntohs(in->sin_port);
        address->low = ntohl(in->sin_addr.s_addr);
    } else if (stored->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)stored;
        address->is_ip6 = 1;
        address->port = ntohs(in6->sin6_port);
        address->scope = in6->sin6_scope_id;
        for (int i = 0; i < 8; i++) {
            address->high = address->high << 8 | in6->sin6_addr.s6_addr[i];
            address->low = address->low << 8 | in6->sin6_addr.s6_addr[8 + i];
        }
    }
}

int mq_decode(const uint8_t *packet, size_t length, mq_header *header) {
    ngtcp2_version_cid found;
    memset(header, 0, sizeof *header);
    int code = ngtcp2_pkt_decode_version_cid(&found, packet, length, MQ_ID_LENGTH);
    if (code != 0 && code != NGTCP2_ERR_VERSION_NEGOTIATION) return code;
    header->version = found.version;
    header->destination = found.dcid;
    header->destination_length = found.dcidlen;
    header->source = found.scid;
    header->source_length = found.scidlen;
    header->is_long = (packet[0] & 0x80) != 0;
    header->is_unknown_version = code == NGTCP2_ERR_VERSION_NEGOTIATION;
    return 0;
}

int mq_accept(const uint8_t *packet, size_t length, mq_initial *initial) {
    ngtcp2_pkt_hd found;
    memset(initial, 0, sizeof *initial);
    int code = ngtcp2_accept(&found, packet, length);
    if (code != 0) return code;
    if (found.dcid.datalen > MQ_MAXIMUM_ID_LENGTH || found.scid.datalen > MQ_MAXIMUM_ID_LENGTH) {
        return NGTCP2_ERR_INVALID_ARGUMENT;
    }
    initial->version = found.version;
    memcpy(initial->destination, found.dcid.data, found.dcid.datalen);
    initial->destination_length = found.dcid.datalen;
    memcpy(initial->source, found.scid.data, found.scid.datalen);
    initial->source_length = found.scid.datalen;
    initial->token = found.token;
    initial->token_length = found.tokenlen;
    return 0;
}

size_t mq_write_version_negotiation(uint8_t *bytes, size_t capacity, uint8_t random, const mq_header *header) {
    const uint32_t versions[] = {NGTCP2_PROTO_VER_V1};
    ngtcp2_ssize n = ngtcp2_pkt_write_version_negotiation(bytes, capacity, random, header->source, header->source_length,
        header->destination, header->destination_length, versions, 1);
    return n > 0 ? (size_t)n : 0;
}

size_t mq_write_stateless_reset(uint8_t *bytes, size_t capacity, const uint8_t secret[32], const uint8_t *id,
    size_t id_length, const uint8_t *random, size_t random_length) {
    uint8_t token[NGTCP2_STATELESS_RESET_TOKENLEN];
    ngtcp2_cid cid;
    if (id_length > NGTCP2_MAX_CIDLEN) return 0;
    ngtcp2_cid_init(&cid, id, id_length);
    if (ngtcp2_crypto_generate_stateless_reset_token(token, secret, 32, &cid) != 0) return 0;
    ngtcp2_ssize n = ngtcp2_pkt_write_stateless_reset(bytes, capacity, token, random, random_length);
    return n > 0 ? (size_t)n : 0;
}

size_t mq_write_retry(uint8_t *bytes, size_t capacity, const mq_initial *initial, const uint8_t *id,
    const uint8_t secret[32], const mq_address *remote, uint64_t now) {
    struct sockaddr_storage storage;
    socklen_t length = mq_put_address(&storage, remote);
    ngtcp2_cid retry, source, original;
    uint8_t token[NGTCP2_CRYPTO_MAX_RETRY_TOKENLEN2];
    ngtcp2_cid_init(&retry, id, MQ_ID_LENGTH);
    ngtcp2_cid_init(&source, initial->source, initial->source_length);
    ngtcp2_cid_init(&original, initial->destination, initial->destination_length);
    ngtcp2_ssize size = ngtcp2_crypto_generate_retry_token2(
        token, secret, 32, initial->version, (struct sockaddr *)&storage, length, &retry, &original, now);
    if (size < 0) return 0;
    ngtcp2_ssize n = ngtcp2_crypto_write_retry(
        bytes, capacity, initial->version, &source, &retry, &original, token, (size_t)size);
    return n > 0 ? (size_t)n : 0;
}

int mq_check_retry(const mq_initial *initial, const uint8_t secret[32], const mq_address *remote, uint64_t timeout,
    uint64_t now, uint8_t original[MQ_MAXIMUM_ID_LENGTH], size_t *original_length) {
    struct sockaddr_storage storage;
    socklen_t length = mq_put_address(&storage, remote);
    ngtcp2_cid found, destination;
    ngtcp2_cid_init(&destination, initial->destination, initial->destination_length);
    if (initial->token_length == 0 || initial->token[0] != NGTCP2_CRYPTO_TOKEN_MAGIC_RETRY2) return 0;
    int code = ngtcp2_crypto_verify_retry_token2(&found, initial->token, initial->token_length, secret, 32,
        initial->version, (struct sockaddr *)&storage, length, &destination, timeout, now);
    if (code != 0 || found.datalen > MQ_MAXIMUM_ID_LENGTH) return 0;
    memcpy(original, found.data, found.datalen);
    *original_length = found.datalen;
    return 1;
}
