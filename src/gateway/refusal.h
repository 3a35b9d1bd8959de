/* refusal.h - why there is no connection to the NATS server, for the user. */
#ifndef FZ_REFUSAL_H
#define FZ_REFUSAL_H

#include <nats/nats.h>

struct fz_err;
struct fz_nats_url;

/*
 * Set `err` to the reason for status `s`. `detail` is the text of libnats, or
 * NULL. This text is searched and never shown, because it may have secrets.
 * Always returns -1.
 */
int fz_refusal(struct fz_err *err, const struct fz_nats_url *url, natsStatus s,
    const char *detail);

#endif
