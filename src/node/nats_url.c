#include "node/nats_url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

#define URL_TEAM                     \
	"abcdefghijklmnopqrstuvwxyz" \
	"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
#define URL_HOST URL_TEAM "."
#define URL_ADDRESS "0123456789abcdefABCDEF:."

static int
wrong(struct fz_err *err, const char *what)
{
	return fz_err_set(err, FZ_ERR_ERROR,
	    "%s: an engine is nats://[USER:PASSWORD@]HOST[:PORT][/TEAM]", what);
}

bool
fz_nats_url_is(const char *text)
{
	return strncmp(text, "nats://", 7) == 0 ||
	       strncmp(text, "tls://", 6) == 0;
}

static int
hex(char c)
{
	const char *digits = "0123456789abcdef0123456789ABCDEF";
	const char *at = c != '\0' ? strchr(digits, c) : NULL;

	return at != NULL ? (int)((at - digits) % 16) : -1;
}

/* Copy the bytes up to `end` with %XX decoded. 0, or -1: malformed. */
static int
decode(char *to, const char *at, const char *end)
{
	size_t n = 0;

	for (; at < end; at++) {
		int c = (unsigned char)*at;

		if (c == '%') {
			int high = hex(at[1]);
			int low = high < 0 ? -1 : hex(at[2]);

			c = low < 0 ? 0 : high * 16 + low;
			at += 2;
		}
		if (c == 0 || at >= end || n + 1 >= FZ_NATS_URL_MAX)
			return -1;
		to[n++] = (char)c;
	}
	to[n] = '\0';
	return 0;
}

static int
read_user(struct fz_nats_url *url, const char *at, const char *end)
{
	const char *colon = memchr(at, ':', (size_t)(end - at));
	const char *user_end = colon != NULL ? colon : end;

	if (at == user_end || decode(url->user, at, user_end) != 0)
		return -1;
	return colon == NULL ? 0 : decode(url->password, colon + 1, end);
}

static int
copy(char *to, size_t room, const char *at, size_t len)
{
	if (len == 0 || len >= room)
		return -1;
	memcpy(to, at, len);
	to[len] = '\0';
	return 0;
}

static int
read_host(struct fz_nats_url *url, const char *at, const char *end)
{
	size_t len =
	    *at == '[' ? strspn(at + 1, URL_ADDRESS) + 1 : strspn(at, URL_HOST);
	char *behind;

	if (*at == '[' && at[len++] != ']')
		return -1;
	if (copy(url->host, sizeof(url->host), at, len) != 0)
		return -1;
	at += len;
	url->port = 4222;
	if (at == end)
		return 0;
	if (*at != ':' || at[1] < '0' || at[1] > '9')
		return -1;
	url->port = (unsigned)strtoul(at + 1, &behind, 10);
	return behind == end && url->port - 1 < 65535 ? 0 : -1;
}

static int
read_rest(struct fz_nats_url *url, const char *at)
{
	size_t len;

	strcpy(url->team, "default");
	if (*at == '/' && at[1] != '\0' && at[1] != '?') {
		len = strspn(++at, URL_TEAM);
		if (copy(url->team, sizeof(url->team), at, len) != 0)
			return -1;
		at += len;
	} else if (*at == '/') {
		at++;
	}
	url->insecure = strcmp(at, "?insecure") == 0;
	return url->insecure || *at == '\0' ? 0 : -1;
}

static bool
is_loopback(const char *host)
{
	return strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0 ||
	       (strncmp(host, "127.", 4) == 0 &&
		   host[strspn(host, "0123456789.")] == '\0');
}

int
fz_nats_url_read(struct fz_nats_url *url, const char *text, struct fz_err *err)
{
	const char *at, *end, *user = NULL;

	*url = (struct fz_nats_url){ .tls = strncmp(text, "tls", 3) == 0 };
	at = strstr(text, "://");
	if (!fz_nats_url_is(text) || at == NULL)
		return wrong(err, "no such scheme");
	at += 3;
	end = at + strcspn(at, "/?");
	for (const char *p = at; p < end; p++) {
		if (*p == '@')
			user = p;
	}
	if (user != NULL && read_user(url, at, user) != 0)
		return wrong(err, "wrong user or password");
	if (user != NULL)
		at = user + 1;
	if (read_host(url, at, end) != 0)
		return wrong(err, "wrong host or port");
	if (read_rest(url, end) != 0)
		return wrong(err, "wrong team or option");
	if (!url->tls && !url->insecure && !is_loopback(url->host))
		return fz_err_set(err, FZ_ERR_ERROR,
		    "the connection to %.128s is not encrypted: use tls://, or "
		    "?insecure after the URL",
		    url->host);
	snprintf(url->shown, sizeof(url->shown), "%s://%s:%u/%s",
	    url->tls ? "tls" : "nats", url->host, url->port, url->team);
	return 0;
}
