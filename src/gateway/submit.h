/*
 * submit.h - the gateway of a submitter.
 *
 * The script's process starts it and holds a SOCK_SEQPACKET socket to it, `fd`.
 * The first message on it has the strings url, creds, identity, and the name of
 * the abstract socket where relays connect. The gateway answers with messages,
 * each of a type and strings:
 *
 *	N id name slots workers processors load why
 *	                a node; "why" is the reason why it is not ready, or ""
 *	S the same      a node that is silent, and may return
 *	R               the list of the nodes that answered at once is complete
 *	E text          no node can be used; no message follows
 *
 * The gateway ends when that socket is closed. A relay (relay.h) passes the
 * descriptors of a worker's stream, and ends with its lease.
 */
#ifndef FZ_SUBMIT_H
#define FZ_SUBMIT_H

int fz_gateway_submit(int fd);

#endif
