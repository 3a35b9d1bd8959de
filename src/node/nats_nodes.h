/*
 * nats_nodes.h - the gateway program of a NATS engine, whose nodes are
 * fz_nats_nodes in nodes.h.
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

/* Room for the path of the gateway's program. */
enum { FZ_NATS_PROGRAM_MAX = 512 };

/*
 * The program of the gateway: the one that the environment variable FZLUA_NATS
 * names, the one beside the fzlua command, or "fzlua-nats", which is searched
 * in PATH.
 */
void fz_nats_program(char path[FZ_NATS_PROGRAM_MAX]);

/* Report that there is no such program. Always returns -1. */
int fz_nats_missing(struct fz_err *err);

#endif
