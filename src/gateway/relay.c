#define _GNU_SOURCE /* for MSG_CMSG_CLOEXEC */
#include "gateway/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "node/nodes.h"
#include "os/fd.h"

/* Time between two attempts to send a request, in milliseconds. */
#define RELAY_PAUSE_MS 20

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(FZ_RELAY_NFDS * sizeof(int))];
};

socklen_t
fz_relay_address(struct sockaddr_un *address, const char *name)
{
	size_t len = strlen(name);

	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (len > sizeof(address->sun_path) - 1)
		len = sizeof(address->sun_path) - 1;
	memcpy(address->sun_path + 1, name, len);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len);
}

/*
 * Send a message with descriptors. Linux limits the number of descriptors that
 * a user has sent and no process has received yet. At this limit, waits until
 * the gateway receives some of them or ends.
 */
static int
send_message(int conn, const struct msghdr *message)
{
	struct pollfd pfd = { .fd = conn };

	while (sendmsg(conn, message, MSG_NOSIGNAL) < 0) {
		if (errno != ETOOMANYREFS || poll(&pfd, 1, RELAY_PAUSE_MS) != 0)
			return -1;
	}
	return 0;
}

static int
send_request(int conn, const char *id)
{
	static const int fds[FZ_RELAY_NFDS] = { STDIN_FILENO, STDOUT_FILENO };
	char text[64];
	struct iovec part = { text, 0 };
	union control control = { 0 };
	struct msghdr message = { .msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes) };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	snprintf(text, sizeof(text), "%s", id);
	part.iov_len = strlen(text);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(header), fds, sizeof(fds));
	return send_message(conn, &message);
}

/*
 * Take the descriptors out of a message, and return their number. The kernel
 * passes on fewer than were sent if this process has no room for all.
 */
static size_t
take_descriptors(struct msghdr *message, int fds[FZ_RELAY_NFDS])
{
	struct cmsghdr *header = CMSG_FIRSTHDR(message);
	size_t len;

	if (header == NULL || header->cmsg_type != SCM_RIGHTS)
		return 0;
	len = header->cmsg_len - CMSG_LEN(0);
	memcpy(fds, CMSG_DATA(header), len);
	return len / sizeof(int);
}

int
fz_relay_receive(int conn, char *id, size_t room, int fds[FZ_RELAY_NFDS])
{
	struct iovec part = { id, room - 1 };
	union control control = { 0 };
	struct msghdr message = { .msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes) };
	ssize_t n = recvmsg(conn, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	size_t nfds = n >= 0 ? take_descriptors(&message, fds) : 0;

	if (n > 0 && nfds == FZ_RELAY_NFDS &&
	    !(message.msg_flags & MSG_CTRUNC)) {
		id[n] = '\0';
		return 0;
	}
	if (n >= 0)
		errno = EPROTO;
	for (size_t i = 0; i < nfds; i++)
		fz_fd_close(&fds[i]);
	return -1;
}

/* Print the reason. A number after it is printed first, in its own line. */
static void
print_reason(char text[FZ_RELAY_TEXT_MAX + 1], size_t len)
{
	size_t end;

	text[len] = '\0';
	end = strlen(text) + 1;
	if (end < len)
		fprintf(
		    stderr, "%c%s\n%s\n", FZ_NODES_REACHED, text + end, text);
	else
		fprintf(stderr, "%s\n", text);
}

int
fz_relay_main(const char *name, const char *id)
{
	struct sockaddr_un address;
	socklen_t len = fz_relay_address(&address, name);
	int conn = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	char why[FZ_RELAY_TEXT_MAX + 1];
	ssize_t n;

	if (conn == -1 ||
	    connect(conn, (struct sockaddr *)&address, len) != 0 ||
	    send_request(conn, id) != 0) {
		fputs("the gateway to NATS has ended\n", stderr);
		return EXIT_FAILURE;
	}
	/* Close the stream here, so that it ends when the gateway closes it. */
	close(STDIN_FILENO);
	close(STDOUT_FILENO);
	n = fz_fd_read(conn, why, FZ_RELAY_TEXT_MAX);
	if (n == 1) /* the lease ended in good order */
		return EXIT_SUCCESS;
	if (n > 1)
		print_reason(why, (size_t)n);
	else if (n < 0)
		fprintf(stderr, "the gateway to NATS refuses to serve: %s\n",
		    strerror(errno));
	else
		fputs("the gateway to NATS has ended\n", stderr);
	return EXIT_FAILURE;
}
