#define _GNU_SOURCE /* for eventfd */
#include "gateway/bus.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <nats/nats.h>

#include "base/clock.h"
#include "base/err.h"
#include "gateway/refusal.h"
#include "gateway/server_name.h"
#include "node/nats_url.h"
#include "os/fd.h"

enum {
	BUS_CONNECT_MS = 2000,
	/* maximum number of bytes of a body; longer bodies slow down servers */
	BUS_BODY_MAX = 512 << 10,
	/* minimum max_payload of a usable server: an announcement must fit */
	BUS_BODY_MIN = 512,
	BUS_SHORT_MAX = 1024,
	BUS_NKEY_LEN = 56,
	/*
	 * Interval of pings. A connection counts as lost after two pings
	 * without an answer.
	 */
	BUS_PING_MS = 10000,
	BUS_NSUBS = 2,
	/* maximum number of reads in a row; libnats reads 32 KiB each time */
	BUS_READS_MAX = 32,
	/* number of unwritten bytes above which streams wait */
	BUS_UNSENT_MAX = 1 << 20,
	/* maximum number of messages that are freed together */
	BUS_SPENT_MAX = 64,
	/* maximum number of bytes of the messages that are freed together */
	BUS_SPENT_BYTES = 64 << 10
};

/* Time to write the remaining bytes at the end. */
#define BUS_FLUSH_NS (FZ_CLOCK_SECOND / 3)

static const char *const role_names[] = { "nodes", "submitters" };

/* A message that a thread of libnats has passed on. */
struct parcel {
	struct parcel *next;
	natsMsg *msg;
};

struct fz_bus {
	natsConnection *nc;
	natsSubscription *subs[BUS_NSUBS], *absent;
	char prefix[FZ_NATS_TEAM_MAX + 16];
	char id[FZ_PACKET_ID + 1];
	size_t body_max;
	int wake; /* eventfd that the threads of libnats make readable */
	/* the message of the packet that fz_bus_next() returned last */
	natsMsg *taken;
	char absent_id[FZ_PACKET_ID + 1]; /* body of a packet ABSENT */
	/* messages that are not needed any more: see spend() */
	natsMsg *spent[BUS_SPENT_MAX];
	int nspent, nspent_bytes;
	/* guards the fields below, which threads of libnats also use */
	pthread_mutex_t lock;
	int socket;  /* socket that the caller polls; -1: none */
	bool writes; /* libnats waits until it can write */
	bool lost;
	bool closing;                 /* no more messages are accepted */
	struct parcel *first, **tail; /* messages about absent gateways */
};

static void
wake(const struct fz_bus *bus)
{
	uint64_t one = 1;

	/*
	 * A write fails if the counter is full: then the eventfd is readable.
	 */
	if (write(bus->wake, &one, sizeof(one)) < 0)
		return;
}

/*
 * With an event loop of the caller, libnats reads and writes when it is called,
 * and packets do not pass through threads of libnats.
 */
static natsStatus
attach(void **ctx, void *loop, natsConnection *nc, natsSock socket)
{
	struct fz_bus *bus = loop;

	(void)nc;
	*ctx = bus;
	pthread_mutex_lock(&bus->lock);
	bus->socket = socket;
	pthread_mutex_unlock(&bus->lock);
	return NATS_OK;
}

static natsStatus
read_wanted(void *ctx, bool add)
{
	(void)ctx;
	(void)add; /* libnats always adds the socket */
	return NATS_OK;
}

/*
 * A thread of libnats may call this for a ping. The ping can wait for the next
 * turn, so no wake-up is needed.
 */
static natsStatus
write_wanted(void *ctx, bool add)
{
	struct fz_bus *bus = ctx;

	pthread_mutex_lock(&bus->lock);
	bus->writes = add;
	pthread_mutex_unlock(&bus->lock);
	return NATS_OK;
}

/* May be called in a thread of libnats, too. */
static natsStatus
detach(void *ctx)
{
	struct fz_bus *bus = ctx;

	pthread_mutex_lock(&bus->lock);
	bus->socket = -1;
	pthread_mutex_unlock(&bus->lock);
	return NATS_OK;
}

/*
 * Called in a thread of libnats when a gateway is absent. Subscriptions without
 * a thread do not get these messages.
 */
static void
absence_came(
    natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *closure)
{
	struct fz_bus *bus = closure;
	struct parcel *parcel = malloc(sizeof(*parcel));
	bool closing;

	(void)nc;
	(void)sub;
	pthread_mutex_lock(&bus->lock);
	closing = bus->closing;
	if (parcel != NULL && !closing) {
		*parcel = (struct parcel){ NULL, msg };
		*bus->tail = parcel;
		bus->tail = &parcel->next;
	}
	pthread_mutex_unlock(&bus->lock);
	if (parcel != NULL && !closing) {
		wake(bus);
		return;
	}
	/* without memory drop the answer: the next beat gets another one */
	free(parcel);
	natsMsg_Destroy(msg);
}

/* Called in a thread of libnats. */
static void
connection_closed(natsConnection *nc, void *closure)
{
	struct fz_bus *bus = closure;

	(void)nc;
	pthread_mutex_lock(&bus->lock);
	bus->lost = true;
	pthread_mutex_unlock(&bus->lock);
	wake(bus);
}

static void
errors_are_silent(
    natsConnection *nc, natsSubscription *sub, natsStatus status, void *closure)
{
	(void)nc;
	(void)sub;
	(void)status;
	(void)closure; /* gateways notice lost packets by their numbers */
}

/* Whether the user of the URL is a public key. */
static bool
is_nkey(const char *user)
{
	return user[0] == 'U' && strlen(user) == BUS_NKEY_LEN &&
	       user[strspn(user, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")] == '\0';
}

static natsStatus
set_secrets(
    natsOptions *options, const struct fz_nats_url *url, const char *creds)
{
	if (*creds != '\0' && is_nkey(url->user))
		return natsOptions_SetNKeyFromSeed(options, url->user, creds);
	if (*creds != '\0')
		return natsOptions_SetUserCredentialsFromFiles(
		    options, creds, NULL);
	if (url->user[0] == '\0')
		return NATS_OK;
	if (url->password[0] == '\0')
		return natsOptions_SetToken(options, url->user);
	return natsOptions_SetUserInfo(options, url->user, url->password);
}

static natsStatus
set_options(natsOptions *options, struct fz_bus *bus,
    const struct fz_nats_url *url, const char *creds)
{
	char server[FZ_NATS_URL_MAX + 32], name[FZ_SERVER_NAME_MAX];
	natsStatus s;

	snprintf(server, sizeof(server), "nats://%s:%u", url->host, url->port);
	s = natsOptions_SetURL(options, server);
	if (s == NATS_OK)
		s = natsOptions_SetTimeout(options, BUS_CONNECT_MS);
	if (s == NATS_OK)
		s = natsOptions_SetAllowReconnect(options, false);
	if (s == NATS_OK)
		s = natsOptions_SetPingInterval(options, BUS_PING_MS);
	if (s == NATS_OK) /* no buffering: packets are big already */
		s = natsOptions_SetSendAsap(options, true);
	if (s == NATS_OK)
		s = natsOptions_SetName(options, "fzlua");
	if (s == NATS_OK)
		s = natsOptions_SetClosedCB(options, connection_closed, bus);
	if (s == NATS_OK)
		s = natsOptions_SetErrorHandler(
		    options, errors_are_silent, NULL);
	if (s == NATS_OK)
		s = natsOptions_SetEventLoop(
		    options, bus, attach, read_wanted, write_wanted, detach);
	if (s == NATS_OK && url->tls)
		s = natsOptions_SetSecure(options, true);
	/* otherwise a certificate for any name would be accepted */
	fz_server_name_bare(name, url->host);
	if (s == NATS_OK && url->tls)
		s = natsOptions_SetExpectedHostname(options, name);
	return s == NATS_OK ? set_secrets(options, url, creds) : s;
}

/*
 * Subscribe to `name`. If `came` is set, a thread of libnats calls it for each
 * message.
 */
static natsStatus
subscribe(struct fz_bus *bus, natsSubscription **sub, const char *name,
    natsMsgHandler came)
{
	char subject[FZ_NATS_TEAM_MAX + 64];
	natsStatus s;

	snprintf(subject, sizeof(subject), "%s%s", bus->prefix, name);
	if (came != NULL)
		s = natsConnection_Subscribe(sub, bus->nc, subject, came, bus);
	else
		s = natsConnection_SubscribeSync(sub, bus->nc, subject);
	/* No limit here, because the windows of the leases limit the queue. */
	return s == NATS_OK ? natsSubscription_SetPendingLimits(*sub, -1, -1)
			    : s;
}

static natsStatus
subscribe_all(struct fz_bus *bus, enum fz_bus_role role)
{
	char absent[FZ_PACKET_ID + 4];
	natsStatus s = subscribe(bus, &bus->subs[0], bus->id, NULL);

	snprintf(absent, sizeof(absent), "%s.*", bus->id);
	if (s == NATS_OK)
		s = subscribe(bus, &bus->absent, absent, absence_came);
	if (s == NATS_OK)
		s = subscribe(bus, &bus->subs[1], role_names[role], NULL);
	return s;
}

static int
connect_failed(natsStatus s, const struct fz_nats_url *url, const char *creds,
    struct fz_err *err)
{
	if (*creds != '\0' && access(creds, R_OK) != 0)
		return fz_err_sys(
		    err, errno, "cannot read the credentials in %.128s", creds);
	return fz_refusal(err, url, s, nats_GetLastError(NULL));
}

static int
open_connection(struct fz_bus *bus, const struct fz_nats_url *url,
    const char *creds, enum fz_bus_role role, struct fz_err *err)
{
	natsOptions *options = NULL;
	natsStatus s;

	fz_server_name_limit_wait();
	if (fz_server_name_check(url->host, err) != 0)
		return -1;
	s = natsOptions_Create(&options);
	if (s == NATS_OK)
		s = set_options(options, bus, url, creds);
	if (s == NATS_OK)
		s = natsConnection_Connect(&bus->nc, options);
	natsOptions_Destroy(options);
	if (s == NATS_OK)
		s = subscribe_all(bus, role);
	return s == NATS_OK ? 0 : connect_failed(s, url, creds, err);
}

static int
find_body_max(
    struct fz_bus *bus, const struct fz_nats_url *url, struct fz_err *err)
{
	int64_t max = natsConnection_GetMaxPayload(bus->nc) - FZ_PACKET_HEADER;

	if (max < BUS_BODY_MIN)
		return fz_err_set(err, FZ_ERR_ERROR,
		    "%.160s: max_payload of the server is too low", url->shown);
	bus->body_max = max < BUS_BODY_MAX ? (size_t)max : BUS_BODY_MAX;
	return 0;
}

struct fz_bus *
fz_bus_open(const struct fz_nats_url *url, const char *creds, const char *id,
    enum fz_bus_role role, struct fz_err *err)
{
	struct fz_bus *bus = calloc(1, sizeof(*bus));

	if (bus == NULL) {
		fz_err_nomem(err, "a connection");
		return NULL;
	}
	pthread_mutex_init(&bus->lock, NULL);
	bus->tail = &bus->first;
	bus->socket = -1;
	snprintf(bus->prefix, sizeof(bus->prefix), "fzlua.%s.", url->team);
	snprintf(bus->id, sizeof(bus->id), "%s", id);
	bus->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (bus->wake == -1)
		fz_err_sys(err, errno, "cannot make an eventfd");
	else if (open_connection(bus, url, creds, role, err) == 0 &&
		 find_body_max(bus, url, err) == 0)
		return bus;
	fz_bus_close(bus);
	return NULL;
}

int
fz_bus_fd(const struct fz_bus *bus)
{
	return bus->wake;
}

int
fz_bus_socket(struct fz_bus *bus, short *events)
{
	int fd;

	pthread_mutex_lock(&bus->lock);
	fd = bus->socket;
	*events = (short)(POLLIN | (bus->writes ? POLLOUT : 0));
	pthread_mutex_unlock(&bus->lock);
	return fd;
}

bool
fz_bus_is_full(const struct fz_bus *bus)
{
	return natsConnection_Buffered(bus->nc) > BUS_UNSENT_MAX;
}

void
fz_bus_write(struct fz_bus *bus)
{
	bool writes;

	pthread_mutex_lock(&bus->lock);
	writes = bus->writes && bus->socket != -1;
	pthread_mutex_unlock(&bus->lock);
	if (writes)
		natsConnection_ProcessWriteEvent(bus->nc);
}

void
fz_bus_rest(struct fz_bus *bus)
{
	uint64_t count;

	if (read(bus->wake, &count, sizeof(count)) < 0)
		count = 0; /* the eventfd was not readable */
}

void
fz_bus_read(struct fz_bus *bus)
{
	short events;
	int fd = fz_bus_socket(bus, &events), left = 1;

	for (int n = 0; n < BUS_READS_MAX && left > 0 && fd != -1; n++) {
		natsConnection_ProcessReadEvent(bus->nc);
		fd = fz_bus_socket(bus, &events);
		if (fd == -1 || ioctl(fd, FIONREAD, &left) != 0)
			return;
	}
}

bool
fz_bus_is_lost(struct fz_bus *bus)
{
	bool lost;

	pthread_mutex_lock(&bus->lock);
	lost = bus->lost;
	pthread_mutex_unlock(&bus->lock);
	return lost;
}

size_t
fz_bus_body_max(const struct fz_bus *bus)
{
	return bus->body_max;
}

void
fz_bus_send(struct fz_bus *bus, const char *to, const struct fz_packet *header,
    unsigned char *bytes, size_t len)
{
	char subject[FZ_NATS_TEAM_MAX + 64];

	snprintf(subject, sizeof(subject), "%s%s", bus->prefix, to);
	fz_packet_write(bytes, header);
	/* A failure is ignored: libnats then closes the connection. */
	natsConnection_Publish(
	    bus->nc, subject, bytes, (int)(FZ_PACKET_HEADER + len));
}

/*
 * The server sends its answer to this subject if nothing receives the packet:
 * PREFIX.ID.TO, with -LEASE-SEQ for a packet of a stream.
 */
void
fz_bus_send_stream(struct fz_bus *bus, const char *to, uint32_t lease,
    const struct fz_packet *header, unsigned char *bytes, size_t len)
{
	char subject[FZ_NATS_TEAM_MAX + 64], reply[FZ_NATS_TEAM_MAX + 96];

	snprintf(subject, sizeof(subject), "%s%s", bus->prefix, to);
	snprintf(reply, sizeof(reply), "%s%s.%s-%" PRIx32 "-%" PRIx32,
	    bus->prefix, bus->id, to, lease, header->seq);
	fz_packet_write(bytes, header);
	natsConnection_PublishRequest(
	    bus->nc, subject, reply, bytes, (int)(FZ_PACKET_HEADER + len));
}

/* Write a short packet at `bytes`. Returns its length. */
static size_t
write_short(const struct fz_bus *bus,
    unsigned char bytes[FZ_PACKET_HEADER + BUS_SHORT_MAX],
    const struct fz_packet *header, const void *body, size_t len)
{
	if (len > BUS_SHORT_MAX)
		len = BUS_SHORT_MAX;
	if (len > bus->body_max)
		len = bus->body_max;
	if (len != 0)
		memcpy(bytes + FZ_PACKET_HEADER, body, len);
	fz_packet_write(bytes, header);
	return FZ_PACKET_HEADER + len;
}

void
fz_bus_send_short(struct fz_bus *bus, const char *to,
    const struct fz_packet *header, const void *body, size_t len)
{
	unsigned char bytes[FZ_PACKET_HEADER + BUS_SHORT_MAX];

	len = write_short(bus, bytes, header, body, len);
	fz_bus_send(bus, to, header, bytes, len - FZ_PACKET_HEADER);
}

void
fz_bus_probe(struct fz_bus *bus, const char *to, const struct fz_packet *header,
    const void *body, size_t len)
{
	unsigned char bytes[FZ_PACKET_HEADER + BUS_SHORT_MAX];
	char subject[FZ_NATS_TEAM_MAX + 64], reply[FZ_NATS_TEAM_MAX + 96];

	len = write_short(bus, bytes, header, body, len);
	snprintf(subject, sizeof(subject), "%s%s", bus->prefix, to);
	snprintf(reply, sizeof(reply), "%s%s.%s", bus->prefix, bus->id, to);
	natsConnection_PublishRequest(bus->nc, subject, reply, bytes, (int)len);
}

void
fz_bus_send_all(struct fz_bus *bus, enum fz_bus_role role,
    const struct fz_packet *header, const void *body, size_t len)
{
	fz_bus_send_short(bus, role_names[role], header, body, len);
}

/* Read what the server has answered to a packet: see fz_bus_send_stream(). */
static void
read_absence(struct fz_bus *bus, const char *subject, struct fz_packet *packet)
{
	const char *name = strrchr(subject, '.');

	*packet = (struct fz_packet){ 0 };
	if (name == NULL || strlen(name) <= FZ_PACKET_ID)
		return;
	name++;
	memcpy(bus->absent_id, name, FZ_PACKET_ID);
	sscanf(name + FZ_PACKET_ID, "-%" SCNx32 "-%" SCNx32, &packet->lease,
	    &packet->seq);
	packet->type = FZ_PACKET_ABSENT;
	packet->body = (const unsigned char *)bus->absent_id;
	packet->len = sizeof(bus->absent_id);
}

static void
read_message(struct fz_bus *bus, struct fz_packet *packet)
{
	if (!natsMsg_IsNoResponders(bus->taken)) {
		fz_packet_read(packet, natsMsg_GetData(bus->taken),
		    (size_t)natsMsg_GetDataLength(bus->taken));
		return;
	}
	read_absence(bus, natsMsg_GetSubject(bus->taken), packet);
}

/* The next message about an absent gateway; NULL if there is none. */
static natsMsg *
next_absence(struct fz_bus *bus)
{
	struct parcel *parcel;
	natsMsg *msg = NULL;

	pthread_mutex_lock(&bus->lock);
	parcel = bus->first;
	if (parcel != NULL) {
		bus->first = parcel->next;
		msg = parcel->msg;
	}
	if (bus->first == NULL)
		bus->tail = &bus->first;
	pthread_mutex_unlock(&bus->lock);
	free(parcel);
	return msg;
}

static void
free_spent(struct fz_bus *bus)
{
	while (bus->nspent > 0)
		natsMsg_Destroy(bus->spent[--bus->nspent]);
	bus->nspent_bytes = 0;
}

/*
 * Free messages only when they are many. A thread of libnats frees them. To
 * wake that thread for each message would take more time than the rest of the
 * work for a short message.
 */
static void
spend(struct fz_bus *bus)
{
	if (bus->taken == NULL)
		return;
	bus->nspent_bytes += natsMsg_GetDataLength(bus->taken);
	bus->spent[bus->nspent++] = bus->taken;
	bus->taken = NULL;
	if (bus->nspent == BUS_SPENT_MAX || bus->nspent_bytes > BUS_SPENT_BYTES)
		free_spent(bus);
}

bool
fz_bus_next(struct fz_bus *bus, struct fz_packet *packet)
{
	spend(bus);
	bus->taken = next_absence(bus);
	for (int i = 0; i < BUS_NSUBS && bus->taken == NULL; i++) {
		if (natsSubscription_NextMsg(&bus->taken, bus->subs[i], 0) !=
		    NATS_OK)
			bus->taken = NULL;
	}
	if (bus->taken == NULL)
		return false;
	read_message(bus, packet);
	return true;
}

/* Write the remaining bytes, which may contain a CLOSE. */
static void
write_rest(struct fz_bus *bus)
{
	int64_t until_ns = fz_clock_ns() + BUS_FLUSH_NS;
	struct pollfd pfd;

	while (
	    natsConnection_Buffered(bus->nc) > 0 && fz_clock_ns() < until_ns) {
		fz_bus_write(bus);
		pfd.fd = fz_bus_socket(bus, &pfd.events);
		pfd.events = POLLOUT;
		if (pfd.fd == -1 || poll(&pfd, 1, 10) < 0)
			return;
	}
}

void
fz_bus_close(struct fz_bus *bus)
{
	if (bus == NULL)
		return;
	for (int i = 0; i < BUS_NSUBS; i++)
		natsSubscription_Destroy(bus->subs[i]);
	natsSubscription_Destroy(bus->absent);
	/*
	 * If anything is left to write, even the ends of the subscriptions,
	 * libnats waits for half a second below.
	 */
	if (bus->nc != NULL)
		write_rest(bus);
	natsConnection_Destroy(bus->nc);
	pthread_mutex_lock(&bus->lock);
	bus->closing = true;
	pthread_mutex_unlock(&bus->lock);
	/*
	 * free the messages now, while libnats still has the objects that this
	 * needs
	 */
	free_spent(bus);
	do {
		natsMsg_Destroy(bus->taken);
		bus->taken = next_absence(bus);
	} while (bus->taken != NULL);
	/*
	 * Wait for the threads of libnats, which may call the functions here
	 * until they end.
	 */
	nats_CloseAndWait(BUS_CONNECT_MS);
	fz_fd_close(&bus->wake);
	pthread_mutex_destroy(&bus->lock);
	free(bus);
}
