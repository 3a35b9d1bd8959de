/*
 * connection.h - the connection of a gateway. If it is lost, a new one is made,
 * and the leases continue.
 */
#ifndef FZ_CONNECTION_H
#define FZ_CONNECTION_H

#include <stdint.h>

struct fz_err;
struct fz_gateway;

enum fz_connection_change {
	FZ_CONNECTION_SAME,
	FZ_CONNECTION_LOST, /* the connection is lost; reported once */
	FZ_CONNECTION_MADE
};

/* Connect for the first time. 0, or -1 and `err`. */
int fz_connection_open(struct fz_gateway *g, struct fz_err *err);

/*
 * Called once in each turn: sends the beats if they are due. If there is no
 * connection, tries to make one instead, which may take two seconds.
 */
enum fz_connection_change fz_connection_check(
    struct fz_gateway *g, int64_t now_ns);

#endif
