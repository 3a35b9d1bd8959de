/*
 * serve.h - the gateway of a node: `fzlua --worker --engine nats://...`.
 *
 * The gateway announces the node. For each lease it starts `fzlua --worker`,
 * and passes the stream of the lease on to that process. After SIGINT or
 * SIGTERM it accepts no more leases, waits until its workers have finished what
 * they run, and exits. A second signal ends the workers.
 */
#ifndef FZ_SERVE_H
#define FZ_SERVE_H

/*
 * The strings in the file `fd`: url, creds, identity, command, slots, name,
 * and the file of --allow or "".
 * Returns the exit status.
 */
int fz_gateway_serve(int fd);

#endif
