/*
 * nats_nodes.h - the gateway program of a NATS engine, whose nodes are
 * fz_nats_nodes in nodes.h.
 *
 * 	this process === fzlua-nats --submit === server === fzlua-nats --serve
 * 	                                                          |
 * 	                                                  fzlua --worker
 *
 * This process starts the gateway. The gateway lists the nodes, and reports
 * each node that joins or leaves later. A worker on a node is a program, as
 * with ssh: fzlua-nats --relay. See src/gateway.
 */
#ifndef FZ_NATS_NODES_H
#define FZ_NATS_NODES_H

struct fz_err;

/* Room for the path of the gateway's program. */
enum { FZ_NATS_PROGRAM_MAX = 512 };

/*
 * Find the program of the gateway: the value of the environment variable
 * FZLUA_NATS; else the program fzlua-nats in the directory of the fzlua
 * command; else "fzlua-nats", for a search in PATH.
 */
void fz_nats_program(char path[FZ_NATS_PROGRAM_MAX]);

/* Report that the program of the gateway does not exist. Always returns -1. */
int fz_nats_missing(struct fz_err *err);

#endif
