/*
 * submit.h - the gateway of a submitter.
 *
 * The script's process starts it and holds a SOCK_SEQPACKET socket to it, fd,
 * whose first message are the strings url, creds, identity, and the name of the
 * abstract socket where relays connect. It answers with messages, each a type
 * and strings:
 *
 *	N id name slots workers processors load why    a node, "why" not ready
 *	S the same                  a node that is silent, and may come back
 *	R                           all nodes that answered at once were listed
 *	E text                      no node can be used; nothing follows
 *
 * It ends with that socket. A relay (relay.h) passes the descriptors of a
 * worker's stream, and ends with its lease.
 */
#ifndef FZ_GATEWAY_SUBMIT_H
#define FZ_GATEWAY_SUBMIT_H

int submit_main(int fd);

#endif
