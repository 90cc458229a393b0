#include "quic_internal.h"
#include <string.h>
#include <stdlib.h>

#define LIBP2P_EXTENSION "1.3.6.1.4.1.53594.1.1"
#define COMMON_NAME "2.5.4.3"

struct mq_key {
    gnutls_x509_privkey_t key;
};

mq_key *mq_key_create(void) {
    mq_key *made = calloc(1, sizeof *made);
    if (!made) return NULL;
    if (gnutls_x509_privkey_init(&made->key) != 0) {
        free(made);
        return NULL;
    }
    unsigned bits = GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1);
    if (gnutls_x509_privkey_generate(made->key, GNUTLS_PK_ECDSA, bits, 0) != 0) {
        mq_key_free(made);
        return NULL;
    }
    return made;
}

void mq_key_free(mq_key *key) {
    if (!key) return;
    gnutls_x509_privkey_deinit(key->key);
    free(key);
}

size_t mq_key_public(const mq_key *key, uint8_t *bytes, size_t capacity) {
    gnutls_privkey_t private = NULL;
    gnutls_pubkey_t public = NULL;
    gnutls_datum_t der = {NULL, 0};
    size_t size = 0;
    if (gnutls_privkey_init(&private) == 0 && gnutls_pubkey_init(&public) == 0
        && gnutls_privkey_import_x509(private, key->key, 0) == 0
        && gnutls_pubkey_import_privkey(public, private, 0, 0) == 0
        && gnutls_pubkey_export2(public, GNUTLS_X509_FMT_DER, &der) == 0 && der.size <= capacity) {
        memcpy(bytes, der.data, der.size);
        size = der.size;
    }
    gnutls_free(der.data);
    if (public) gnutls_pubkey_deinit(public);
    if (private) gnutls_privkey_deinit(private);
    return size;
}

static int fill(gnutls_x509_crt_t certificate, const mq_key *key, const uint8_t *extension, size_t length, int is_critical,
    const uint8_t serial[8], int64_t from, int64_t until) {
    static const char name[] = "libp2p";
    int code = gnutls_x509_crt_set_version(certificate, 3);
    if (code == 0) code = gnutls_x509_crt_set_key(certificate, key->key);
    if (code == 0) code = gnutls_x509_crt_set_serial(certificate, serial, 8);
    if (code == 0) code = gnutls_x509_crt_set_activation_time(certificate, (time_t)from);
    if (code == 0) code = gnutls_x509_crt_set_expiration_time(certificate, (time_t)until);
    if (code == 0) code = gnutls_x509_crt_set_dn_by_oid(certificate, COMMON_NAME, 0, name, sizeof name - 1);
    if (code == 0) {
        code = gnutls_x509_crt_set_extension_by_oid(certificate, LIBP2P_EXTENSION, extension, length,
            is_critical ? 1 : 0);
    }
    if (code == 0) code = gnutls_x509_crt_sign2(certificate, certificate, key->key, GNUTLS_DIG_SHA256, 0);
    return code;
}

static int verify(gnutls_session_t session) {
    unsigned count = 0;
    const gnutls_datum_t *list = gnutls_certificate_get_peers(session, &count);
    ngtcp2_crypto_conn_ref *reference = gnutls_session_get_ptr(session);
    if (!reference || !list || count == 0) return GNUTLS_E_CERTIFICATE_ERROR;
    mq_connection *connection = reference->user_data;
    int refused = connection->handlers->verify(connection->context, list[0].data, list[0].size, count);
    return refused ? GNUTLS_E_CERTIFICATE_ERROR : 0;
}

mq_credentials *mq_credentials_create(const mq_key *key, const uint8_t *extension, size_t length, int is_critical,
    const uint8_t serial[8], int64_t from, int64_t until) {
    mq_credentials *made = calloc(1, sizeof *made);
    gnutls_x509_crt_t certificate = NULL;
    if (!made) return NULL;
    int code = gnutls_certificate_allocate_credentials(&made->credentials);
    if (code == 0) code = gnutls_x509_crt_init(&certificate);
    if (code == 0) code = fill(certificate, key, extension, length, is_critical, serial, from, until);
    if (code == 0) code = gnutls_x509_crt_export2(certificate, GNUTLS_X509_FMT_DER, &made->certificate);
    if (code == 0) code = gnutls_certificate_set_x509_key(made->credentials, &certificate, 1, key->key);
    if (certificate) gnutls_x509_crt_deinit(certificate);
    if (code < 0) {
        mq_credentials_free(made);
        return NULL;
    }
    gnutls_certificate_set_verify_function(made->credentials, verify);
    return made;
}

void mq_credentials_free(mq_credentials *credentials) {
    if (!credentials) return;
    gnutls_free(credentials->certificate.data);
    if (credentials->credentials) gnutls_certificate_free_credentials(credentials->credentials);
    free(credentials);
}

size_t mq_credentials_certificate(const mq_credentials *credentials, uint8_t *bytes, size_t capacity) {
    if (credentials->certificate.size > capacity) return 0;
    memcpy(bytes, credentials->certificate.data, credentials->certificate.size);
    return credentials->certificate.size;
}

// gnutls_x509_crt_verify against the certificate itself would not look at the signature: what is in the list is trusted.
int mq_certificate_is_self_signed(const uint8_t *bytes, size_t length, const uint8_t *signed_part, size_t signed_length,
    int64_t *from, int64_t *until) {
    gnutls_x509_crt_t certificate = NULL;
    gnutls_pubkey_t public = NULL;
    uint8_t signature[1100];
    size_t size = sizeof signature;
    gnutls_datum_t der = {(unsigned char *)bytes, (unsigned)length};
    gnutls_datum_t part = {(unsigned char *)signed_part, (unsigned)signed_length};
    int is_valid = 0;
    if (gnutls_x509_crt_init(&certificate) != 0) return 0;
    if (gnutls_x509_crt_import(certificate, &der, GNUTLS_X509_FMT_DER) == 0 && gnutls_pubkey_init(&public) == 0
        && gnutls_pubkey_import_x509(public, certificate, 0) == 0
        && gnutls_x509_crt_get_signature(certificate, (char *)signature, &size) == 0) {
        int algorithm = gnutls_x509_crt_get_signature_algorithm(certificate);
        gnutls_datum_t made = {signature, (unsigned)size};
        *from = (int64_t)gnutls_x509_crt_get_activation_time(certificate);
        *until = (int64_t)gnutls_x509_crt_get_expiration_time(certificate);
        // SHA-1 and MD5 are not signatures any more; GnuTLS refuses them unless told otherwise.
        if (algorithm > 0) {
            is_valid = gnutls_pubkey_verify_data2(public, (gnutls_sign_algorithm_t)algorithm, 0, &part, &made) >= 0;
        }
    }
    if (public) gnutls_pubkey_deinit(public);
    gnutls_x509_crt_deinit(certificate);
    return is_valid;
}
