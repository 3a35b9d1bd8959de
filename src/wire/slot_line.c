#include "wire/slot_line.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include "os/fd.h"

int
fz_slot_send(int fd, enum fz_slot_type type, uint32_t number)
{
	const struct fz_slot_message message = { type, number };

	/*
	 * The send does not wait: the queue has room, because each end has few
	 * messages in flight.
	 */
	return send(fd, &message, sizeof(message),
		   MSG_NOSIGNAL | MSG_DONTWAIT) >= 0
		   ? 0
		   : -1;
}

int
fz_slot_receive(int fd, struct fz_slot_message *message)
{
	ssize_t n = recv(fd, message, sizeof(*message), MSG_DONTWAIT);

	if (n == sizeof(*message))
		return 1;
	return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

/* The gateway is gone and no other process shares the slots: close the line. */
static void
lose(struct fz_slot_line *line)
{
	fz_fd_close(&line->fd);
}

static void
take(struct fz_slot_line *line, const struct fz_slot_message *message)
{
	if (message->number != line->number)
		return;
	line->held = message->type == FZ_SLOT_GRANT;
	if (!line->held &&
	    fz_slot_send(line->fd, FZ_SLOT_DONE, line->number) != 0)
		lose(line);
}

bool
fz_slot_line_check(struct fz_slot_line *line)
{
	struct fz_slot_message message;
	bool held = line->held;
	int rc = 0;

	/*
	 * Stop reading after a GRANT: the new slot is used for one call, even
	 * if an ASK for it has already come.
	 */
	while (line->fd != -1 && (held || !line->held) &&
	       (rc = fz_slot_receive(line->fd, &message)) == 1)
		take(line, &message);
	if (rc < 0)
		lose(line);
	return line->fd == -1 || line->held;
}

void
fz_slot_line_want(struct fz_slot_line *line)
{
	line->number++;
	if (fz_slot_send(line->fd, FZ_SLOT_WANT, line->number) != 0)
		lose(line);
}

void
fz_slot_line_stop(struct fz_slot_line *line)
{
	line->held = false;
	if (fz_slot_send(line->fd, FZ_SLOT_DONE, line->number) != 0)
		lose(line);
	line->number++; /* with a new number, a message in flight is ignored */
}

void
fz_slot_line_wait(struct fz_slot_line *line, int fd)
{
	struct pollfd pfd[] = { { .fd = fd, .events = POLLIN },
		{ .events = POLLIN } };

	while (line->fd != -1 && line->held) {
		pfd[1].fd = line->fd;
		if (poll(pfd, 2, -1) < 0 && errno != EINTR)
			return;
		if (pfd[0].revents != 0)
			return;
		fz_slot_line_check(line);
	}
}
