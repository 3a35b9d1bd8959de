#include "gateway/refusal.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "node/nats_url.h"

/* The text before OpenSSL's number for the fault of a certificate. */
#define REFUSAL_HANDSHAKE "handshake error: "

/* Faults of certificates, by OpenSSL's numbers, which verify(1) lists. */
static const struct fault {
	int first, last; /* X509_V_ERR_... */
	const char *text;
} faults[] = {
	{ 9, 9, "is not valid yet: compare the clocks" },
	{ 10, 10, "has expired" },
	{ 18, 21,
	    "is not signed by an authority that this machine trusts "
	    "(SSL_CERT_FILE names others)" },
	{ 62, 62, "is not for the name in the URL" },
	{ 64, 64, "is not for this address: use its name in the URL" },
};

static const char *
fault_of(const char *detail)
{
	const char *at =
	    detail != NULL ? strstr(detail, REFUSAL_HANDSHAKE) : NULL;
	int number = at != NULL ? atoi(at + strlen(REFUSAL_HANDSHAKE)) : 0;

	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		if (number >= faults[i].first && number <= faults[i].last)
			return faults[i].text;
	}
	return "is not valid for this name, or not trusted "
	       "(SSL_CERT_FILE names others)";
}

static const char *
reason_of(natsStatus s)
{
	switch (s) {
	case NATS_NO_SERVER:
	case NATS_TIMEOUT:
		return "no NATS server answers";
	case NATS_CONNECTION_AUTH_FAILED:
	case NATS_NOT_PERMITTED:
		return "the NATS server refuses the user or password";
	case NATS_SECURE_CONNECTION_WANTED:
		return "the NATS server does not offer TLS";
	case NATS_SECURE_CONNECTION_REQUIRED:
		return "the NATS server requires TLS: use tls://";
	case NATS_PROTOCOL_ERROR:
	case NATS_CONNECTION_CLOSED:
	case NATS_IO_ERROR:
		return "what answers closes the connection, or is no NATS "
		       "server";
	default:
		return natsStatus_GetText(s);
	}
}

int
fz_refusal(struct fz_err *err, const struct fz_nats_url *url, natsStatus s,
    const char *detail)
{
	if (s == NATS_SSL_ERROR)
		return fz_err_set(err, FZ_ERR_ERROR,
		    "%.128s: the certificate of the NATS server %s", url->shown,
		    fault_of(detail));
	return fz_err_set(
	    err, FZ_ERR_ERROR, "%.160s: %s", url->shown, reason_of(s));
}
