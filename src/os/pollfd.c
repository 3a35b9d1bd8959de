/* timerfd_create and CLOCK_MONOTONIC are not in C11. */
#define _GNU_SOURCE
#include "os/pollfd.h"

#include <errno.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "os/fd.h"

int
fz_pollfd_add(const struct fz_pollfd *pollfd, int epfd, struct fz_err *err)
{
	struct epoll_event ev = { .events = EPOLLIN };

	if (pollfd->fd != -1 &&
	    epoll_ctl(pollfd->fd, EPOLL_CTL_ADD, epfd, &ev) != 0)
		return fz_err_sys(err, errno, "epoll_ctl");
	return 0;
}

static int
open_both(struct fz_pollfd *pollfd, struct fz_err *err)
{
	pollfd->fd = epoll_create1(EPOLL_CLOEXEC);
	if (pollfd->fd == -1)
		return fz_err_sys(err, errno, "epoll_create1");
	pollfd->timer =
	    timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (pollfd->timer == -1)
		return fz_err_sys(err, errno, "timerfd_create");
	if (fz_fd_clear_standard(&pollfd->fd, err) != 0 ||
	    fz_fd_clear_standard(&pollfd->timer, err) != 0)
		return -1;
	return fz_pollfd_add(pollfd, pollfd->timer, err);
}

int
fz_pollfd_open(struct fz_pollfd *pollfd, struct fz_err *err)
{
	*pollfd = (struct fz_pollfd)FZ_POLLFD_CLOSED;
	if (open_both(pollfd, err) == 0)
		return 0;
	fz_pollfd_close(pollfd);
	return -1;
}

void
fz_pollfd_close(struct fz_pollfd *pollfd)
{
	fz_fd_close(&pollfd->timer);
	fz_fd_close(&pollfd->fd);
}

void
fz_pollfd_arm(const struct fz_pollfd *pollfd, int64_t at_ns)
{
	struct itimerspec spec = { 0 }; /* all zero: disarm the timer */
	int64_t delay_ns;

	if (pollfd->timer == -1)
		return;
	if (at_ns != FZ_CLOCK_NEVER) {
		/*
		 * Set a delay and not a time, because the loop's clock may skip
		 * time and the timer's clock does not.
		 */
		delay_ns = at_ns > 0 ? at_ns - fz_clock_ns() : 0;
		delay_ns = delay_ns > 0 ? delay_ns : 1;
		spec.it_value.tv_sec = delay_ns / FZ_CLOCK_SECOND;
		spec.it_value.tv_nsec = delay_ns % FZ_CLOCK_SECOND;
	}
	timerfd_settime(pollfd->timer, 0, &spec, NULL);
}
