/*
 * serve.h - the gateway of a node: `fzlua --worker --engine nats://...`.
 *
 * It announces the node, and starts `fzlua --worker` for each lease, whose
 * streams it passes on. SIGINT or SIGTERM: it takes no more leases, lets its
 * workers finish what they run, and leaves; a second one ends them.
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
