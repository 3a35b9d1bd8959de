/*
 * connection.h - the connection of a gateway, which is made again once it is
 * lost. The leases go on with the new one.
 */
#ifndef FZ_CONNECTION_H
#define FZ_CONNECTION_H

#include <stdint.h>

struct fz_err;
struct gateway;

enum connection_change {
	CONNECTION_SAME,
	CONNECTION_LOST, /* the connection is lost; reported once */
	CONNECTION_MADE
};

/* Connect for the first time. 0, or -1 and `err`. */
int connection_open(struct gateway *g, struct fz_err *err);

/*
 * Called once in each turn: sends the beats if they are due. Without a
 * connection it tries to make one instead, which may take two seconds.
 */
enum connection_change connection_check(struct gateway *g, int64_t now_ns);

#endif
