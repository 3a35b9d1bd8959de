#define _GNU_SOURCE /* for accept4 and struct ucred */
#include "gateway/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "gateway/gateway.h"
#include "os/fd.h"

/* Time that a relay has for its request, which it sends at once. */
#define LISTENER_REQUEST_NS FZ_CLOCK_SECOND
/* Time after which the listener checks again whether descriptors are free. */
#define LISTENER_REST_NS (FZ_CLOCK_SECOND / 10)

int
fz_listener_open(struct fz_listener *l, const char *name)
{
	struct sockaddr_un address;
	socklen_t len = fz_relay_address(&address, name);

	l->fd =
	    socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (l->fd == -1 || bind(l->fd, (struct sockaddr *)&address, len) != 0)
		return -1;
	return listen(l->fd, SOMAXCONN);
}

static int64_t
earlier(int64_t a_ns, int64_t b_ns)
{
	return a_ns < b_ns ? a_ns : b_ns;
}

int64_t
fz_listener_poll(struct fz_listener *l, struct fz_gateway *g, int64_t until_ns)
{
	l->at = -1;
	if (g->turn_ns < l->rest_ns)
		return earlier(until_ns, l->rest_ns);
	if (l->conn != -1)
		until_ns = earlier(until_ns, l->until_ns);
	l->at = fz_gateway_add(g, l->conn != -1 ? l->conn : l->fd, POLLIN);
	return until_ns;
}

/*
 * Accept nothing for a while. Otherwise the socket would stay ready, and each
 * turn would fail to accept in the same way.
 */
static void
rest(struct fz_listener *l, int64_t now_ns)
{
	l->rest_ns = now_ns + LISTENER_REST_NS;
	if (l->conn != -1)
		l->until_ns = l->rest_ns + LISTENER_REQUEST_NS;
}

static bool
is_own_user(int conn)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	return getsockopt(conn, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 &&
	       cred.uid == geteuid();
}

static void
accept_conn(struct fz_listener *l, int64_t now_ns)
{
	l->conn = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (l->conn == -1 && errno != EAGAIN)
		rest(l, now_ns);
	if (l->conn == -1)
		return;
	l->until_ns = now_ns + LISTENER_REQUEST_NS;
	if (is_own_user(l->conn))
		return;
	fz_listener_refuse(l->conn);
	l->conn = -1;
}

/*
 * Whether this process can get the descriptors of a request. The kernel drops
 * descriptors for which the process has no room.
 */
static bool
has_room(int conn)
{
	int fds[FZ_RELAY_NFDS];
	bool all = true;

	for (int i = 0; i < FZ_RELAY_NFDS; i++) {
		fds[i] = fcntl(conn, F_DUPFD_CLOEXEC, 0);
		all = all && fds[i] != -1;
	}
	for (int i = 0; i < FZ_RELAY_NFDS; i++)
		fz_fd_close(&fds[i]);
	return all;
}

static bool
receive(struct fz_listener *l, struct fz_relay_request *request, int64_t now_ns)
{
	*request =
	    (struct fz_relay_request){ .conn = l->conn, .fds = { -1, -1 } };
	if (fz_relay_receive(
		l->conn, request->id, sizeof(request->id), request->fds) == 0) {
		l->conn = -1;
		return true;
	}
	if (errno == EAGAIN && now_ns < l->until_ns)
		return false;
	fz_listener_refuse(l->conn);
	l->conn = -1;
	return false;
}

bool
fz_listener_work(struct fz_listener *l, const struct fz_gateway *g,
    struct fz_relay_request *request)
{
	int64_t now_ns = g->turn_ns;

	if (now_ns < l->rest_ns)
		return false;
	if (l->conn == -1 && fz_gateway_events(g, l->at) != 0)
		accept_conn(l, now_ns);
	if (l->conn == -1)
		return false;
	if (has_room(l->conn))
		return receive(l, request, now_ns);
	rest(l, now_ns);
	return false;
}

void
fz_listener_refuse(int conn)
{
	static const char why[] = "the script's gateway cannot serve a worker";

	send(conn, why, sizeof(why) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	close(conn);
}

void
fz_listener_close(struct fz_listener *l)
{
	fz_fd_close(&l->conn);
	fz_fd_close(&l->fd);
}
