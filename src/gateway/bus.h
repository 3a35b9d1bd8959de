/*
 * bus.h - the connection to the NATS server, the only user of libnats.
 *
 * Messages of one sender to one receiver keep their order. They are lost if the
 * connection breaks or if there is no memory. Each subject begins with
 * "fzlua.TEAM.":
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

struct fz_bus;
struct fz_err;
struct fz_nats_url;

enum fz_bus_role { FZ_BUS_NODES, FZ_BUS_SUBMITTERS };

/*
 * Connect as the gateway `id` of one of the roles, with the secrets of the file
 * `creds` if it is not "". NULL and `err`, whose text has no secret.
 */
struct fz_bus *fz_bus_open(const struct fz_nats_url *url, const char *creds,
    const char *id, enum fz_bus_role role, struct fz_err *err);

/*
 * The descriptors to poll. If fz_bus_fd() is readable, the connection is lost
 * or a gateway is absent: call fz_bus_rest(). If fz_bus_socket() (-1: none) is
 * readable, call fz_bus_read(). Then call fz_bus_next() for each packet that
 * has come. Call fz_bus_write() before each wait.
 */
int fz_bus_fd(const struct fz_bus *bus);
int fz_bus_socket(struct fz_bus *bus, short *events);
void fz_bus_rest(struct fz_bus *bus);
void fz_bus_read(struct fz_bus *bus);
void fz_bus_write(struct fz_bus *bus);

/* Whether too many bytes are unwritten: streams should wait. */
bool fz_bus_is_full(const struct fz_bus *bus);
bool fz_bus_is_lost(struct fz_bus *bus);

/* The longest body of a packet. */
size_t fz_bus_body_max(const struct fz_bus *bus);

/*
 * Send a packet to the gateway `to`. `bytes` has room for the header, which
 * this function writes, and then the `len` bytes of the body.
 */
void fz_bus_send(struct fz_bus *bus, const char *to,
    const struct fz_packet *header, unsigned char *bytes, size_t len);

/*
 * As fz_bus_send(), for a packet of the stream of `lease` here. If there is no
 * such gateway, a FZ_PACKET_ABSENT comes back that names the packet.
 */
void fz_bus_send_stream(struct fz_bus *bus, const char *to, uint32_t lease,
    const struct fz_packet *header, unsigned char *bytes, size_t len);

/* As fz_bus_send(), for a short `body`, which is copied. */
void fz_bus_send_short(struct fz_bus *bus, const char *to,
    const struct fz_packet *header, const void *body, size_t len);

/*
 * As fz_bus_send_short(). If there is no such gateway, a FZ_PACKET_ABSENT comes
 * back.
 */
void fz_bus_probe(struct fz_bus *bus, const char *to,
    const struct fz_packet *header, const void *body, size_t len);

/* As fz_bus_send_short(), to all gateways of a role. */
void fz_bus_send_all(struct fz_bus *bus, enum fz_bus_role role,
    const struct fz_packet *header, const void *body, size_t len);

/*
 * Get the next packet, which is valid until the next call. False if there is
 * none.
 */
bool fz_bus_next(struct fz_bus *bus, struct fz_packet *packet);

void fz_bus_close(struct fz_bus *bus); /* NULL is allowed */

#endif
