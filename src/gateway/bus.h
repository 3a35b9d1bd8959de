/*
 * bus.h - the connection to the NATS server, the only user of libnats.
 *
 * Messages of one sender to one receiver keep their order. They may be lost:
 * with a connection, or if there is no memory. Subjects, behind fzlua.TEAM:
 *
 *	ID              packets for the gateway ID
 *	ID.PEER         from the server: there is no gateway PEER
 *	nodes           packets for all gateways of nodes
 *	submitters      packets for all gateways of submitters
 */
#ifndef FZ_BUS_H
#define FZ_BUS_H

#include <stdbool.h>
#include <stddef.h>

#include "gateway/packet.h"

struct bus;
struct fz_err;
struct fz_nats_url;

enum bus_role { BUS_NODES, BUS_SUBMITTERS };

/*
 * Connect as the gateway `id` of one of the roles, with the secrets of the file
 * `creds` if it is not "". NULL and `err`, whose text has no secret.
 */
struct bus *bus_open(const struct fz_nats_url *url, const char *creds,
    const char *id, enum bus_role role, struct fz_err *err);

/*
 * The descriptors to poll. If bus_fd() is readable, the connection is lost or a
 * gateway is absent: call bus_rest(). If bus_socket() (-1: none) is readable,
 * call bus_read(). After both call bus_next() for each packet that has come.
 * Call bus_write() before each wait.
 */
int bus_fd(const struct bus *bus);
int bus_socket(struct bus *bus, short *events);
void bus_rest(struct bus *bus);
void bus_read(struct bus *bus);
void bus_write(struct bus *bus);

/* Whether so much is not written yet that streams should wait. */
bool bus_is_full(const struct bus *bus);
bool bus_is_lost(struct bus *bus);

/* The longest body of a packet. */
size_t bus_body_max(const struct bus *bus);

/*
 * Send a packet to the gateway `to`. Its body has `len` bytes behind the room
 * for the header, which this function writes.
 */
void bus_send(struct bus *bus, const char *to, const struct packet *header,
    unsigned char *bytes, size_t len);

/* The same for a short `body`, which is copied. */
void bus_send_short(struct bus *bus, const char *to,
    const struct packet *header, const void *body, size_t len);

/* The same; a PACKET_ABSENT comes back if there is no such gateway. */
void bus_probe(struct bus *bus, const char *to, const struct packet *header,
    const void *body, size_t len);

/* The same to all gateways of a role. */
void bus_send_all(struct bus *bus, enum bus_role role,
    const struct packet *header, const void *body, size_t len);

/*
 * Get the next packet, which is valid until the next call. False if there is
 * none.
 */
bool bus_next(struct bus *bus, struct packet *packet);

void bus_close(struct bus *bus); /* NULL is allowed */

#endif
