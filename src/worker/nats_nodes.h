/*
 * nats_nodes.h - the nodes of a NATS engine.
 *
 *	this process === fzlua-nats --submit === server === fzlua-nats --serve
 *	                                                          |
 *	                                                  fzlua --worker
 *
 * This process starts the gateway, which lists the nodes that have joined, and
 * reports those that join and leave later. A worker on a node is a program, as
 * with ssh: fzlua-nats --relay. See src/gateway.
 */
#ifndef FZ_NATS_NODES_H
#define FZ_NATS_NODES_H

struct fz_err;
struct fz_nats;
struct fz_nodes;

/* The longest path of the gateway's program. */
enum { FZ_NATS_PROGRAM_MAX = 512 };

/*
 * The program that is the gateway: that of the environment variable FZLUA_NATS,
 * the one beside the fzlua command, or "fzlua-nats", which is searched in PATH.
 */
void fz_nats_program(char path[FZ_NATS_PROGRAM_MAX]);

/* Report that there is no such program. Always returns -1. */
int fz_nats_missing(struct fz_err *err);

/*
 * Start a gateway to `url`, with the secrets of the file `creds` (NULL: none),
 * and fill the list of `nodes`. Waits for that, 3 s or so at most. 0, or -1 and
 * `err`, also if no node has joined.
 */
int fz_nats_start(struct fz_nodes *nodes, const char *url, const char *creds,
    const char *identity, struct fz_err *err);

/* Take what the gateway has reported since. */
void fz_nats_update(struct fz_nodes *nodes);

/* Whether the gateway serves this process, which is no fork of its owner. */
int fz_nats_is_usable(const struct fz_nats *nats);

/* End the gateway; NULL is allowed. */
void fz_nats_end(struct fz_nats *nats);

#endif
