/*
 * nats_url.h - the URL of a NATS engine.
 *
 *	nats://[USER[:PASSWORD]@]HOST[:PORT][/TEAM][?insecure]
 *
 * and tls://. A user without a password is a token.
 */
#ifndef FZ_NATS_URL_H
#define FZ_NATS_URL_H

#include <stdbool.h>

struct fz_err;

enum { FZ_NATS_URL_MAX = 256, FZ_NATS_TEAM_MAX = 64 };

struct fz_nats_url {
	bool tls;
	bool insecure; /* allow an unencrypted connection to another machine */
	char user[FZ_NATS_URL_MAX]; /* user or token, decoded; "": none */
	char password[FZ_NATS_URL_MAX];
	/* name or address of the host; an IPv6 address is in brackets */
	char host[FZ_NATS_URL_MAX];
	unsigned port;
	char team[FZ_NATS_TEAM_MAX + 1];
	/* the URL without secrets, for messages */
	char shown[2 * FZ_NATS_URL_MAX];
};

/* Whether `text` has one of the schemes. */
bool fz_nats_url_is(const char *text);

/* Parse a URL. 0, or -1 and `err`. The text of `err` contains no secret. */
int fz_nats_url_read(
    struct fz_nats_url *url, const char *text, struct fz_err *err);

#endif
