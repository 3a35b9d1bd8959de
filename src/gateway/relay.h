/*
 * relay.h - a worker on a node, as the submitter's process sees it.
 *
 * The relay is a process whose standard input and output are the worker's
 * stream. The relay passes both descriptors to the gateway at the abstract
 * socket `name`, for the node `id`. The relay lives as long as the lease, so
 * that its end shows the end of the worker.
 */
#ifndef FZ_RELAY_H
#define FZ_RELAY_H

#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

enum {
	FZ_RELAY_NFDS = 2,       /* number of descriptors in a request */
	FZ_RELAY_TEXT_MAX = 192, /* room for the text of an error */
};

int fz_relay_main(const char *name, const char *id);

/* The abstract address of a name; returns its length. */
socklen_t fz_relay_address(struct sockaddr_un *address, const char *name);

/*
 * Receive a request from `conn`: the id of the node, with `room` - 1 bytes at
 * most, and the descriptors. 0, or -1 if it is not a request.
 */
int fz_relay_receive(int conn, char *id, size_t room, int fds[FZ_RELAY_NFDS]);

#endif
